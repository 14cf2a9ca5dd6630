"""Claims that were sent and whose outcome is not known, on the disk: a later process must know of them too.

The server accepts a claim of a run that has ended meanwhile. So a claim that reaches it late leaves such a run Pending,
unless somebody undoes it: the agent that sent it, or the next one on its state directory.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from loguru import logger

from flowherd.backends import json_values
from flowherd.recurring_error import RecurringError
from flowherd.values import checked_id
from flowherd_runner.contract.files import read_json, write_json

FILE = "claims.json"
#: How long a claim whose sender has given up can still reach the server and be stored, seconds.
LATE_CLAIM_S = 300.0


@dataclass(frozen=True, kw_only=True)
class SentClaim:
    """One claim; all fields are stored."""

    run_id: str
    #: Transition id of the claim.
    claim_id: str
    #: Id of the state that the run had before; empty if it is not known.
    state_id: str = ""
    #: When the claim was sent, or given up (Unix time).
    at: float = 0.0
    #: Nobody waits for the outcome any more. So it is after a restart.
    given_up: bool = False

    @property
    def is_over(self) -> bool:
        """Whether the claim can no longer arrive."""
        return time.time() > self.at + LATE_CLAIM_S


class SentClaims:
    """The claims of one process at the server `address`, and those that an earlier one has left in `directory`.

    Without a directory they are in memory only, and also while it cannot be written.
    """

    def __init__(self, directory: Path | None = None, address: str = "") -> None:
        self._directory = directory
        self._address = address
        self._lock = threading.Lock()
        self._claims: dict[str, SentClaim] | None = None
        self._writing = RecurringError(f"write {FILE}, which names the claims that are under way", logger)

    def add(self, run_id: str, claim_id: UUID, state_id: str) -> None:
        """Note that a claim is about to be sent."""
        with self._lock:
            self._loaded[run_id] = SentClaim(run_id=run_id, claim_id=str(claim_id), state_id=state_id, at=time.time())
            self._write()

    def give_up(self, run_id: str) -> None:
        """Note that nobody waits for the outcome of this claim any more."""
        with self._lock:
            if run_id in self._loaded:
                self._loaded[run_id] = replace(self._loaded[run_id], given_up=True, at=time.time())
                self._write()

    def forget(self, run_id: str) -> None:
        """Note that the outcome is known, or that the claim is wanted again."""
        with self._lock:
            if self._loaded.pop(run_id, None) is not None:
                self._write()

    def waiting(self, run_id: str) -> SentClaim | None:
        """Return the claim of this run if somebody waits for its outcome."""
        with self._lock:
            claim = self._loaded.get(run_id)
        return None if claim is None or claim.given_up else claim

    def given_up(self) -> list[SentClaim]:
        """Return the claims whose outcome nobody waits for."""
        with self._lock:
            return [claim for claim in self._loaded.values() if claim.given_up]

    @property
    def _loaded(self) -> dict[str, SentClaim]:
        if self._claims is None:
            self._claims = self._read()
        return self._claims

    def _read(self) -> dict[str, SentClaim]:
        try:
            stored = read_json(str(self._directory), FILE) if self._directory is not None else None
            if stored is None or stored.get("address") != self._address:
                return {}
            claims = [_claim(json_values.mapping(row)) for row in json_values.sequence(stored["claims"])]
        except (OSError, *json_values.DECODING_ERRORS) as error:
            logger.warning("Cannot read {}, which named claims that were under way: {}", FILE, error)
            return {}
        return {claim.run_id: claim for claim in claims}

    def _write(self) -> None:
        """Not synced: what a crash of the host loses was sent before it, and is stored by now or never."""
        if self._directory is None or not self._directory.is_dir():
            return
        claims = [asdict(claim) for claim in self._loaded.values()]
        try:
            write_json(str(self._directory), FILE, {"address": self._address, "claims": claims}, sync=False)
        except OSError as error:  # the claims are known as long as this process lives
            self._writing.failed(error)
        else:
            self._writing.recovered()


def _claim(row: Mapping[str, Any]) -> SentClaim:
    return SentClaim(
        run_id=checked_id(json_values.text(row["run_id"])),
        claim_id=str(UUID(json_values.text(row["claim_id"]))),
        state_id=json_values.text(row["state_id"]),
        at=float(row["at"]),
        given_up=True,
    )
