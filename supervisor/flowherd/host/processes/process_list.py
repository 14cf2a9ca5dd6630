"""The processes of a run one by one, for people: command lines, memory, CPU time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from flowherd.host.processes.command_lines import command_line
from flowherd.host.processes.process_tree import ProcessTree, status_of
from flowherd.story.live import MOST_PROCESSES, ProcessFigures

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
#: How much of a command line is read, bytes, and shown, characters.
_READ_BYTES, _MAX_TEXT = 4096, 500


def list_processes(tree: ProcessTree) -> tuple[ProcessFigures, ...]:
    """Return those processes of the tree that live, parents before their children, 500 at most.

    Values in command lines that are named like secrets are masked; everything else is what `ps` shows.
    """
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    found = {}
    for member in tree.members[:MOST_PROCESSES]:
        status = status_of(member.pid)
        if status is None or status.start_ticks != member.start_ticks or status.is_zombie:
            continue
        found[member.pid] = ProcessFigures(
            pid=member.pid,
            parent=status.parent,
            command=_command(member.pid),
            memory_bytes=status.resident_pages() * _PAGE_BYTES,
            cpu_time_s=status.ticks / _TICKS_PER_S,
            since=round(booted + status.start_ticks / _TICKS_PER_S, 1),
        )
    return tuple(_parents_first(found))


def _parents_first(found: dict[int, ProcessFigures]) -> Iterator[ProcessFigures]:
    children: dict[int | None, list[ProcessFigures]] = {}
    for one in found.values():
        children.setdefault(one.parent if one.parent in found else None, []).append(one)
    todo = sorted(children.get(None, []), key=lambda one: -one.pid)
    while todo:
        one = todo.pop()
        yield one
        todo += sorted(children.get(one.pid, []), key=lambda child: -child.pid)


def _command(pid: int) -> str:
    """Return the command line of a process, or its name in brackets if it has none (proc(5))."""
    words = _beginning(f"/proc/{pid}/cmdline").rstrip(b"\0").decode("utf-8", "replace")
    if words:
        return command_line(words.split("\0"))[:_MAX_TEXT]
    return f"[{_beginning(f'/proc/{pid}/comm').decode('utf-8', 'replace').strip()}]"


def _beginning(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - for each process of a run
            return file.read(_READ_BYTES)
    except OSError:  # it has ended, or is hidden
        return b""
