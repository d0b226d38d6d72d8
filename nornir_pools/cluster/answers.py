"""What sbatch's answer means: the job's id, or a refusal that may pass or not."""

from __future__ import annotations

import re

from .clusters import id_on
from .slurm import SlurmError

__all__ = ["is_doubtful", "is_transient", "read_job_id", "unknown_option"]

# What sbatch says when it may well say something else later.
_BUSY = (
    "socket timed out",
    "unable to contact slurm controller",
    "resource temporarily unavailable",
    "connect failure",
    "connection refused",
    "zero bytes were transmitted",
    "transport endpoint",
    "slurm temporarily unable to accept job",
    "slurmctld daemon is in standby",
    "timed out after",
)
_LIMITS = ("submitjob", "maxjobsperuser", "job submit limit", "qosmaxsubmit", "assocmaxsubmit", "maxjobcount")


def read_job_id(output: str, asked: str = "") -> str:
    """The job's id in what sbatch printed, whatever a site's wrapper has printed around it. Raises SlurmError.

    `asked`: the clusters that it may be on, with commas between. Then the id says on which it is.
    """
    sentences = re.findall(r"^Submitted batch job (\d+)(?: on cluster (\S+))?", output, re.MULTILINE)
    found = sentences or re.findall(r"^(\d+)(?:;(\S*))?\s*$", output, re.MULTILINE)  # --parsable, or a wrapper's own way
    if not found:
        raise SlurmError(f"sbatch's answer holds no job id: {output.strip()!r}")
    number, cluster = found[-1]
    if asked and not cluster and "," in asked:
        raise SlurmError(f"sbatch's answer holds no job id with its cluster: {output.strip()!r}")
    return id_on(number, cluster or asked if asked else "")


def is_transient(text: str) -> str:
    """Whether a refusal may pass: "limit" (submit fewer, or later), "array" (fewer at once), "busy" (later), "" (no)."""
    low = text.lower()
    if "invalid job array specification" in low:
        return "array"
    if any(word in low for word in _BUSY):
        return "busy"
    return "limit" if any(word in low for word in _LIMITS) else ""


def is_doubtful(text: str) -> bool:
    """Whether the jobs may have been taken in spite of what sbatch says."""
    return is_transient(text) == "busy" or "no job id" in text


def unknown_option(text: str) -> str:
    """The option that sbatch says it does not know; "" if it says no such thing."""
    match = re.search(r"(?:unrecognized|unknown|invalid) option [^\w\n]*([\w-]+)", text)
    return match[1] if match else ""
