"""What a run makes of failures by node: a suspect is avoided, a node is bad once its task has run elsewhere."""

from __future__ import annotations

import pytest

from nornir_pools.cluster import nodelists
from nornir_pools.cluster.nodes import Nodes
from nornir_pools.cluster.slurm import SlurmError

from .test_slurm import StandIn, stand_in

__all__ = ["stand_in"]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for record in caplog.records if "kept away" in (text := record.getMessage())]


def test_a_node_is_bad_once_what_failed_there_has_run_elsewhere(caplog: pytest.LogCaptureFixture) -> None:
    nodes = Nodes("p")
    nodes.note_handed_back("n1", 7, "task 'seven' has failed there (its log: x.log)")
    nodes.note_handed_back("n1", 8, "task 'eight' has failed there (its log: x.log)")
    assert nodes.to_avoid() == {"n1"}
    assert warnings(caplog) == []
    assert nodes.note_end("n2", 7, ran=True)
    assert nodes.note_end("n2", 8, ran=True)
    assert nodes.to_avoid() == {"n1"}
    assert warnings(caplog) == [
        "pool 'p': jobs are kept away from node n1 from now on: task 'seven' has failed there (its log: x.log), but not on n2"
    ]


def test_what_fails_on_a_second_node_too_speaks_against_neither(caplog: pytest.LogCaptureFixture) -> None:
    nodes = Nodes("p")
    nodes.note_handed_back("n1", 7, "why")
    nodes.note_handed_back("n2", 7, "why")
    assert nodes.to_avoid() == frozenset()
    assert nodes.note_end("n3", 7, ran=False)
    assert nodes.to_avoid() == frozenset()
    assert warnings(caplog) == []


def test_both_nodes_are_bad_if_it_runs_on_a_third(caplog: pytest.LogCaptureFixture) -> None:
    nodes = Nodes("p")
    nodes.note_handed_back("n1", 7, "why")
    nodes.note_handed_back("n2", 7, "why")
    nodes.note_end("n3", 7, ran=True)
    assert nodes.to_avoid() == {"n1", "n2"}
    assert len(warnings(caplog)) == 2


def test_what_runs_on_the_same_node_after_all_speaks_against_nobody() -> None:
    nodes = Nodes("p")
    nodes.note_handed_back("n1", 7, "why")
    assert nodes.note_end("n1", 7, ran=True)
    assert nodes.to_avoid() == frozenset()


def test_the_first_doubt_is_told_at_once_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    nodes = Nodes("p")
    for number in (7, 8):
        nodes.note_handed_back("n1", number, "task 'seven' has failed there")
    assert [record.getMessage() for record in caplog.records] == [
        "pool 'p': node n1 may lack something: task 'seven' has failed there; such tasks are tried again elsewhere first"
    ]


def test_a_node_is_good_for_others_once_something_has_run_there() -> None:
    nodes = Nodes("p")
    assert not nodes.is_good_elsewhere("n1")
    nodes.note_end("n1", 1, ran=True)
    nodes.note_end("n2", 2, ran=False)
    assert not nodes.is_good_elsewhere("n1")
    assert nodes.is_good_elsewhere("n3")


def test_a_node_where_two_jobs_end_before_they_can_work_is_avoided_until_one_works(caplog: pytest.LogCaptureFixture) -> None:
    nodes = Nodes("p")
    assert nodes.note_stillborn("n1", ())
    nodes.tell("n1", "why")
    assert (nodes.to_avoid(), warnings(caplog)) == (frozenset(), [])
    assert nodes.note_stillborn("n1", ())
    nodes.tell("n1", "why")
    nodes.tell("n1", "why")
    assert nodes.to_avoid() == {"n1"}
    assert warnings(caplog) == ["pool 'p': jobs are kept away from node n1 from now on: why"]
    assert nodes.note_end("n1", 1, ran=True)
    assert nodes.to_avoid() == frozenset()


def test_more_such_jobs_are_no_news_unless_they_were_kept_away() -> None:
    nodes = Nodes("p")
    assert [nodes.note_stillborn("n1", ()) for _ in range(4)] == [True, True, False, False]
    assert nodes.note_stillborn("n1", {"n1"})
    assert nodes.note_stillborn("n2", {"n1"})


def test_a_node_that_is_not_known_is_never_avoided() -> None:
    nodes = Nodes("p")
    nodes.note_handed_back("", 7, "why")
    assert all(nodes.note_stillborn("", ()) for _ in range(5))
    nodes.note_end("", 7, ran=True)
    assert nodes.to_avoid() == frozenset()
    assert not nodes.is_good_elsewhere("n1")


def test_jobs_that_start_nowhere_speak_against_no_node() -> None:
    nodes = Nodes("p")
    for _ in range(2):
        nodes.note_stillborn("n1", ())
    nodes.absolve_stillborn()
    assert nodes.to_avoid() == frozenset()


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("n1", "n1"),
        ("n[1-2]", "n1"),
        ("n[03-05,07],m1", "n03"),
        ("m1,n[03-05]", "m1"),
        ("n[1-4]-ib", "n1-ib"),
        ("gpu-a.site.org\n", "gpu-a.site.org"),
        ("None assigned", ""),
        ("(null)", ""),
        ("", ""),
    ],
)
def test_first_node_of_a_list(nodes: str, first: str) -> None:
    assert nodelists.first_node(nodes) == first


def test_node_of_a_job_is_asked_of_the_controller(stand_in: StandIn) -> None:
    assert nodelists.node_of("12_0", stand_in("squeue", "echo n3")) == "n3"
    assert nodelists.node_of("12_0", stand_in("squeue", "")) == ""


def test_usable_nodes_are_those_of_the_partition_that_take_jobs(stand_in: StandIn) -> None:
    rows = ["n1|idle|debug*", "n1|idle|tiny", "n2|drained|debug*", "n3|mixed|debug*", "n4|idle~|debug*", "n5|idle*|debug*"]
    environment = stand_in("sinfo", "; ".join(f"echo '{row}'" for row in [*rows, "n6|allocated|long", "banner"]))
    assert nodelists.usable_nodes(None, environment) == {"n1", "n3", "n4"}
    assert nodelists.usable_nodes("debug", environment) == {"n1", "n3", "n4"}
    assert nodelists.usable_nodes("tiny,long", environment) == {"n1", "n6"}
    with pytest.raises(SlurmError):
        nodelists.usable_nodes(None, stand_in("sinfo", "exit 1"))
