"""What facts about a place mean: ok, a warning, or a problem, with what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from nornir_pools.cluster import verdicts
from nornir_pools.cluster.sites import Account, Partition, Qos
from nornir_pools.findings import Finding

HERE = {"nornir_pools": "0.1", "submitit": "1.5.4", "cloudpickle": "3.1", "numpy": "2.4"}


def account(name: str, **limits: Any) -> Account:
    return Account(
        **{
            "name": name,
            "partition": "",
            "qos": ("normal",),
            "default_qos": "",
            "max_submit": None,
            "max_jobs": None,
            "max_wall": "",
            **limits,
        }
    )


def partition(name: str, **facts: Any) -> Partition:
    return Partition(
        **{"name": name, "default": False, "up": True, "limit": "1:00:00", "nodes": "4", "cpus": "8", "memory": "4000", **facts}
    )


def probed(**changes: str) -> Mapping[str, Any]:
    return {"version": [3, 11, 2], "executable": "/usr/bin/python", "packages": {**HERE, **changes}}


@pytest.mark.parametrize(
    ("finding", "verdict", "words"),
    [
        (verdicts.of_space(10**12, None), "ok", "1.0 TB free"),
        (verdicts.of_space(500_000_000, 10**6), "warning", "500 MB free"),
        (verdicts.of_space(10**12, 50), "problem", "room for 50 more files"),
        (verdicts.of_space(1000, None), "problem", "1 kB free"),
        (verdicts.of_cpus(2, 64), "ok", "2 of this machine's 64"),
        (verdicts.of_duration("squeue", 4.0), "warning", "4.00 s"),
        (verdicts.of_lateness(0.1, 30.0), "warning", "30.00 s"),
        (verdicts.of_lateness(0.1, 0.2), "ok", "after 0.10 s"),
        (verdicts.of_clock(-90.0, "n1"), "warning", "n1's is 90.0 s behind"),
        (verdicts.of_python([3, 11, 7], probed(), "on n1"), "ok", "3.11.2 on n1, 3.11.7 here"),
        (verdicts.of_python([3, 12, 1], probed(), "on n1"), "problem", "3.11.2 on n1 (/usr/bin/python), but 3.12.1 here"),
        (verdicts.of_packages(HERE, probed(), "on n1"), "ok", "numpy 2.4"),
        (verdicts.of_packages(HERE, probed(numpy="1.26"), "on n1"), "warning", "numpy 2.4 here, 1.26 on n1"),
        (verdicts.of_packages(HERE, probed(cloudpickle=""), "on n1"), "problem", "not installed on n1"),
        (verdicts.of_packages(HERE, probed(nornir_pools=""), "on n1"), "problem", "cannot be imported on n1"),
        (verdicts.of_packages({**HERE, "numpy": ""}, probed(), "on n1"), "warning", "numpy not installed here, 2.4 on n1"),
        (verdicts.of_imports([], "here", False), "ok", "none of numpy"),
        (verdicts.of_imports([{"name": "torch", "seconds": 12.0, "error": ""}], "on n1", False), "warning", "torch 12.0 s"),
        (verdicts.of_imports([{"name": "torch", "seconds": 15.0, "error": "given up"}], "on n1", True), "warning", "than 15 s"),
        (verdicts.of_limits(1001, [], [], 256, enforced=True), "ok", "not known"),
        (
            verdicts.of_limits(1001, [account("a")], [Qos("normal", None, None, "")], 256, enforced=True),
            "ok",
            "no limit to your jobs",
        ),
        (
            verdicts.of_limits(0, [account("a", max_submit=1000)], [], 256, enforced=True),
            "ok",
            "MaxArraySize is not known, at most 1000",
        ),
    ],
)
def test_a_finding(finding: Finding, verdict: str, words: str) -> None:
    assert finding.verdict == verdict, finding
    assert words in finding.words
    assert verdict == "ok" or finding.advice


def test_a_limit_below_what_a_pool_sends_becomes_an_option() -> None:
    finding = verdicts.of_limits(1001, [account("a", max_submit=100)], [Qos("normal", 50, None, "")], 256, enforced=True)
    assert (finding.verdict, finding.options) == ("warning", {"max_jobs": 50})


def test_partitions() -> None:
    known = [partition("gpu", up=False), partition("short", default=True)]
    assert [one.words.split(":")[0] for one in verdicts.of_partitions(known)] == ["short (default)", "gpu (not up)"]
    assert verdicts.of_partition("", known) is verdicts.of_partition("short,gpu", known) is None
    for wanted, words in {
        "gpu": "gpu is not up",
        "shrt": "there is no partition 'shrt'",
        "short,x": "no partition 'x'",
    }.items():
        finding = verdicts.of_partition(wanted, known)
        assert finding is not None
        assert finding.verdict == "problem"
        assert words in finding.words
    finding = verdicts.of_partition("", [partition("gpu")])
    assert finding is not None
    assert "no default" in finding.words
    assert len(verdicts.of_partitions([partition(f"p{n}") for n in range(50)])) == 11
    assert verdicts.of_partitions([])[0].verdict == "problem"


def test_accounts() -> None:
    mine = [account("b", partition="gpu", max_submit=5, max_jobs=2, max_wall="1-0"), account("a")]
    assert [one.words for one in verdicts.of_accounts(mine, "a")] == [
        "a (default): QOS normal",
        "b in partition gpu: QOS normal, at most 5 jobs in the queue, 2 at once, 1-0 each",
    ]
    qos = [Qos("normal", None, None, ""), Qos("long", 9, 3, "7-0")]
    assert [one.words for one in verdicts.of_qos(qos)] == [
        "normal: no limits of its own",
        "long: at most 9 jobs in the queue, 3 at once, 7-0 each",
    ]
    assert verdicts.of_accounts([], "")[0].verdict == "warning"
    assert verdicts.of_account("a", mine, "short") is verdicts.of_account("b", mine, "gpu") is None
    for wanted, where, words in [("c", "", "you have no account 'c'"), ("b", "short", "may not use partition 'short'")]:
        finding = verdicts.of_account(wanted, mine, where)
        assert finding is not None
        assert finding.verdict == "problem"
        assert words in finding.words
