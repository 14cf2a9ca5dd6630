"""Checked requests of an agent to its fork server (contract/messages.py); ValueError for what is no request."""

import os
import stat
from typing import Any, Dict, List, NamedTuple, Optional

from flowherd_runner.contract.files import MAX_SECONDS
from flowherd_runner.contract.messages import MAX_SPARES


class StartRequest(NamedTuple):
    """The run for which a runner is to be started."""

    directory: str
    lock_fd: int
    go_fd: Optional[int]
    #: The cgroup of the run; None without.
    cgroup: Optional[str]
    #: Whether its processes get a pid namespace of their own.
    apart: bool


class SparesRequest(NamedTuple):
    """How many spare runners of one sort are to be kept."""

    number: int
    #: How long they wait before they rehearse, seconds; None for the usual time.
    idle_s: Optional[float]
    #: Where each makes a cgroup of its own; None for nowhere.
    cgroups: Optional[str]
    #: Whether these are the spares whose flow process has a pid namespace of its own.
    apart: bool


def start_request(message: Dict[str, Any], fds: List[int]) -> StartRequest:
    """Return the request to start a runner; `fds` are the descriptors that came with it."""
    if message["op"] != "start":
        raise ValueError("unknown op {!r}".format(message["op"]))
    directory: Optional[object] = message.get("directory")
    if not isinstance(directory, str) or not os.path.isabs(directory) or not os.path.isdir(directory):
        raise ValueError("not the absolute path of a directory: {!r}".format(directory))
    if len(fds) != 1 and not (len(fds) == 2 and stat.S_ISSOCK(os.fstat(fds[1]).st_mode)):
        text = "a start request carries the lock's descriptor, and perhaps a socket; this one carried {} descriptors"
        raise ValueError(text.format(len(fds)))
    go_fd = fds[1] if len(fds) > 1 else None
    return StartRequest(directory, fds[0], go_fd, _cgroup(message.get("cgroup")), message.get("apart") is True)


def spares_request(message: Dict[str, Any]) -> SparesRequest:
    """Return the request for spare runners."""
    number, idle_s = message.get("number"), message.get("idle_s")
    if not isinstance(number, int) or not 0 <= number <= MAX_SPARES:
        raise ValueError("not a number of spare runners: {!r}".format(number))
    if idle_s is not None and not (isinstance(idle_s, (int, float)) and 0 <= idle_s <= MAX_SECONDS):
        raise ValueError("not a time that a spare runner can wait: {!r}".format(idle_s))
    return SparesRequest(number, idle_s, _cgroup(message.get("cgroups")), message.get("apart") is True)


def _cgroup(path: object) -> Optional[str]:
    if path is None or (isinstance(path, str) and os.path.isabs(path) and "\0" not in path):
        return path
    raise ValueError("not a cgroup: {!r}".format(path))
