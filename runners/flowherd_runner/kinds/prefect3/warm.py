"""Imports Prefect 3, and what its runs need, into a fork server, which names this module as its preload.

Imports nothing that starts a thread, opens a connection or reads what belongs to one run.
"""

import contextlib
import importlib
import os
from typing import Iterator

from flowherd_runner.contract.variables import KIND_PREFECT3
from flowherd_runner.kinds import load_kind
from flowherd_runner.kinds.prefect3 import deferred_services, run_settings, tls

#: Prefect, and what a run imports before its first line and before its end.
_NEEDED = ("prefect", "prefect.engine", "prefect.flow_engine")
_WANTED = (
    "prefect.runner._workspace_resolver",
    "prefect.runner._workspace_starter",
    "prefect.runner._workspace_supervisor",
    "prefect.deployments.steps.pull",
    "prefect.task_engine",
    "prefect.task_runners",
    "prefect.events.clients",
    "prefect.events.worker",
    "prefect.utilities.visualization",
    "anyio._backends._asyncio",
    "encodings.idna",
    "graphviz",
    "netrc",
    "pydantic.v1",
    "rich._emoji_codes",
    # As `python -m prefect.engine` has it.
    "runpy",
)


@contextlib.contextmanager
def _away() -> Iterator[None]:
    """Change to a directory without files that Prefect reads settings from: those of the agent's concern no run."""
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    os.chdir("/")
    try:
        yield
    finally:
        os.fchdir(here)
        os.close(here)


load_kind(KIND_PREFECT3)
with _away():
    for _name in _NEEDED:
        importlib.import_module(_name)
    for _name in _WANTED:
        with contextlib.suppress(ImportError):
            importlib.import_module(_name)
    run_settings.note_import()
    tls.share()
    deferred_services.defer()
