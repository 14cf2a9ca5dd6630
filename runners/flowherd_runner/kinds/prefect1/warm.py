"""What a fork server imports so that runs of Prefect flows need not: to be named as its preload.

Imports nothing that starts a thread, opens a connection or reads what belongs to one run.
"""

import contextlib
import importlib

from flowherd_runner.kinds.prefect1 import speedups

#: Prefect, and what a run of it imports on the way to its first task.
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
#: What flows on Dask import on top; half a second of a run, if it were not here.
_WANTED = ("distributed", "dask.delayed", "dask.multiprocessing", "dask.threaded")

for _name in _NEEDED:
    importlib.import_module(_name)
for _name in _WANTED:
    with contextlib.suppress(Exception):  # a broken one is the affair of the flows that use it
        importlib.import_module(_name)
with contextlib.suppress(AttributeError, TypeError):  # a Prefect that is made otherwise is as quick as it is
    speedups.take()
