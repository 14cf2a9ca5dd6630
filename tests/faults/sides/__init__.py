"""What differs between the backends under the kit: the server, how runs come to it, and what is true of them there.

Everything else, who dies when and what a run may not lose, is the same over each.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

from tests.faults.evidence import Stored
from tests.faults.invariants import Rules
from tests.faults.plan import Pace, PlannedRun
from tests.faults.program import Program


class Unanswered(Exception):
    """The server did not take a person's request, or nobody knows whether it did."""


class Side(Protocol):
    """One backend under the kit, on a directory of its own; all paths to the server that agents have go by `port`."""

    rules: Rules
    pace: Pace
    server: Program
    #: Where the server listens; the same after every start.
    port: int
    #: What tells the server's processes from those of runs.
    server_words: str
    #: Exit codes with which the server ends well.
    good_ends: Collection[int]

    def __init__(self, base: Path, environment: Mapping[str, str]) -> None: ...

    def start(self) -> None:
        """Start the server, wait until it answers and make known what is to be run."""
        ...

    def answers(self) -> bool:
        """Whether the server is there and answers now."""
        ...

    def agent_options(self, address: str) -> list[str]:
        """What an agent is started with when the server is at `address`."""
        ...

    def create(self, planned: PlannedRun) -> str:
        """A run for the agents; its id. Raises Unanswered."""
        ...

    def cancel(self, run_id: str) -> bool:
        """Cancel it, as a person does; whether the server has taken that. Raises Unanswered."""
        ...

    def states(self) -> dict[str, str]:
        """All runs and what they are in, from the database, past the server."""
        ...

    def run(self, run_id: str) -> Stored:
        """All that the database holds of a run."""
        ...

    def close(self) -> None:
        """Close a person's connection."""
        ...
