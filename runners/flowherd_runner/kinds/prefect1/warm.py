"""Imports Prefect 0.x or 1.x, and what its runs need, into a fork server, which names this module as its preload.

Imports nothing that starts a thread, opens a connection or reads what belongs to one run.
"""

import contextlib
import importlib

from flowherd_runner.contract.variables import KIND_PREFECT
from flowherd_runner.kinds import load_kind
from flowherd_runner.kinds.prefect1 import speedups

#: Prefect, and what a run imports before its first task.
_NEEDED = (
    "prefect",
    "prefect.engine.cloud",
    "prefect.cli.execute",
    "encodings.idna",
    "encodings.unicode_escape",
    "multiprocessing.dummy",
    "multiprocessing.popen_fork",
    "multiprocessing.synchronize",
    "netrc",
    "shlex",
)
#: What flows on Dask import in addition; without this it takes half a second of a run.
_WANTED = ("distributed", "dask.delayed", "dask.multiprocessing", "dask.threaded")

load_kind(KIND_PREFECT)
for _name in _NEEDED:
    importlib.import_module(_name)
for _name in _WANTED:
    with contextlib.suppress(Exception):  # a broken one concerns only the flows that use it
        importlib.import_module(_name)
with contextlib.suppress(AttributeError, TypeError):  # another Prefect is only slower
    speedups.install()
