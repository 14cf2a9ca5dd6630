"""Redirects Prefect's records also in processes that a flow starts with multiprocessing's "spawn" (Dask's workers).

Such a process is a new interpreter that imports Prefect itself and has none of the descriptors that a fork would have.
So it is given the record channel, and its command begins with code that adjusts Prefect as soon as it is imported.
"""

import importlib.abc
import importlib.machinery
import multiprocessing.spawn
import multiprocessing.util
import sys
from types import ModuleType
from typing import Any, List, Optional, Sequence

from flowherd_runner import BOOT_FILE
from flowherd_runner.kinds.prefect1 import heartbeats, log_records
from flowherd_runner.record_sender import RecordSender

_PROGRAM = (
    "import runpy; runpy.run_path({boot!r})['load_package'](); "
    "from flowherd_runner.kinds.prefect1.spawned_processes import enter; enter({fd}, {token!r}); "
)


def include(sender: RecordSender) -> None:
    """Make every process that this one spawns from now on adjust its Prefect."""
    fd, token = sender.address
    program = _PROGRAM.format(boot=BOOT_FILE, fd=fd, token=token.decode())
    spawn: Any = multiprocessing.spawn
    util: Any = multiprocessing.util
    get_command_line, spawnv_passfds = spawn.get_command_line, util.spawnv_passfds

    def command_line(**options: Any) -> List[str]:
        command: List[str] = get_command_line(**options)
        if "-c" in command:
            position = command.index("-c") + 1
            command[position] = program + command[position]
        return command

    def spawn_with_channel(path: Any, arguments: Sequence[Any], fds: Sequence[int]) -> Any:
        return spawnv_passfds(path, arguments, sorted({*fds, fd}))

    spawn.get_command_line = command_line
    util.spawnv_passfds = spawn_with_channel


def enter(fd: int, token: str) -> None:
    """At the beginning of a spawned process: adjust Prefect if and when it is imported."""
    sender = RecordSender(fd, token.encode())
    include(sender)
    for stream in (sys.stdout, sys.stderr):
        getattr(stream, "reconfigure", lambda **_: None)(line_buffering=True)
    sys.meta_path.insert(0, _Adjuster(sender))


def adjust(sender: RecordSender) -> None:
    """Send the records of this process's Prefect to the runner, and keep it from starting heartbeat processes."""
    log_records.redirect(sender.record)
    heartbeats.take_over()


class _Adjuster(importlib.abc.MetaPathFinder):
    """Finds Prefect as it would be found otherwise, once, and adjusts it after its import."""

    def __init__(self, sender: RecordSender) -> None:
        self._sender = sender

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]], target: Optional[ModuleType] = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        if fullname != "prefect":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            _adjust_after_import(spec.loader, self._sender)
        return spec


def _adjust_after_import(loader: Any, sender: RecordSender) -> None:
    exec_module = loader.exec_module

    def execute(module: ModuleType) -> None:
        exec_module(module)
        adjust(sender)

    loader.exec_module = execute
