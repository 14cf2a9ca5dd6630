"""Check a backend that agent.backend names and that has no check of its own; changes nothing at its server."""

from __future__ import annotations

from collections.abc import Iterator

from flowherd.backends.registry import open_backend
from flowherd.cli.doctor.finding import Finding, bad, ok
from flowherd.config import LoadedSettings
from flowherd.errors import BackendError, ConfigurationError


def check_added_backend(loaded: LoadedSettings) -> Iterator[Finding]:
    """Yield whether the backend can be loaded and whether its server answers."""
    try:
        backend = open_backend(loaded, only_look=True)
    except ConfigurationError as error:
        yield bad("backend", str(error), "correct agent.backend, or install the package that has this backend")
        return
    try:
        capabilities = backend.connect()
    except BackendError as error:
        yield bad("backend", f"{backend.address}: {error}", "start its server, or correct its settings")
    else:
        yield ok("backend", f"{capabilities.name}: {backend.address} answers")
    finally:
        backend.close()
