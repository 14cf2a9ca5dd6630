"""What differs between the backends under the kit: the server, how runs get there, and what must be true of them.

Everything else is the same for each: what dies when, and what a run must not lose.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import ClassVar, Protocol

from tests.faults.evidence import StoredRun
from tests.faults.invariants import Rules
from tests.faults.plan import FaultRates, PlannedRun
from tests.faults.program import Program


class Unanswered(Exception):
    """The server did not accept a person's request, or it is unknown whether it did."""


class BackendUnderTest(Protocol):
    """One backend under the kit, in a directory of its own; agents reach its server by `port` alone."""

    @property
    def rules(self) -> Rules: ...

    rates: ClassVar[FaultRates]

    @property
    def server(self) -> Program: ...

    @property
    def port(self) -> int:
        """Port of the server; the same after every start."""

    @property
    def server_command(self) -> str:
        """Part of the command line of the server's processes, which no process of a run has."""

    @property
    def good_ends(self) -> Collection[int]:
        """Exit codes of a server that is stopped."""

    def __init__(self, base: Path, environment: Mapping[str, str]) -> None: ...

    def start(self) -> None:
        """Start the server, wait until it answers and register what is to be run."""
        ...

    def answers(self) -> bool:
        """Whether the server answers now."""
        ...

    def agent_options(self, address: str) -> list[str]:
        """Return the options of an agent for a server at `address`."""
        ...

    def create(self, planned: PlannedRun) -> str:
        """Create a run for the agents; return its id. Raises Unanswered."""
        ...

    def cancel(self, run_id: str) -> bool:
        """Cancel it, as a person does; return whether the server has accepted that. Raises Unanswered."""
        ...

    def states(self) -> dict[str, str]:
        """Read the states of all runs from the database, without the server."""
        ...

    def run(self, run_id: str) -> StoredRun:
        """Read what the database has of a run."""
        ...

    def fill_disk(self) -> bool:
        """Fill the disk that the server writes to; return whether it could be done."""
        ...

    def free_disk(self) -> None:
        """Give the room back."""
        ...

    def close(self) -> None:
        """Close the person's connection, and give back what the kit has made for the server."""
        ...
