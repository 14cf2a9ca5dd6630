"""What a fork server imports so that runs of Prefect 3 flows need not: to be named as its preload.

Imports nothing that starts a thread, opens a connection or reads what belongs to one run.
"""

import contextlib
import importlib
import os
from typing import Iterator

from flowherd_runner.kinds.prefect3 import deferred_services, run_settings, tls

#: Prefect, and what a run of it imports on the way to its first line and to its end.
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
)


@contextlib.contextmanager
def _away() -> Iterator[None]:
    """In a directory without files that Prefect reads settings from: the agent's own says nothing about its runs."""
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    os.chdir("/")
    try:
        yield
    finally:
        os.fchdir(here)
        os.close(here)


with _away():
    for _name in _NEEDED:
        importlib.import_module(_name)
    for _name in _WANTED:
        with contextlib.suppress(ImportError):
            importlib.import_module(_name)
    run_settings.note_import()
    tls.share()
    deferred_services.begin_later()
