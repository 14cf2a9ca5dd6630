"""Handle answers that cannot be understood: a whole answer counts as no answer, a single run in it is left out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from loguru import logger

from flowherd.backends.json_values import DECODING_ERRORS
from flowherd.errors import BackendUnavailable

#: Maximum number of run ids kept to log each only once; later ones are not logged.
_MAX_LOGGED = 1000


@contextlib.contextmanager
def decoding(what: str, address: str) -> Iterator[None]:
    """Raise BackendUnavailable if the block cannot read `what`, as the server at `address` sent it."""
    try:
        yield
    except DECODING_ERRORS as error:
        raise BackendUnavailable(f"cannot understand {what} from {address}: {error!r:.200}") from error


class UnreadableRuns:
    """Flow runs that are left out because their description cannot be read, so that they do not block the others."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def leave_out(self, run: Any, error: Exception) -> None:
        """Log once that a run is left out. `run` is its id, or what the server sent in place of its description."""
        run_id = f"{run.get('id') if isinstance(run, dict) else run!r:.80}"
        if run_id not in self._logged and len(self._logged) < _MAX_LOGGED:
            self._logged.add(run_id)
            logger.warning("Leaving out flow run {}: cannot understand its description: {!r:.200}", run_id, error)
