"""Tries for each level and network what would keep a run apart, with a runner and a flow process that run nothing.

Both go through all that those of a run do, up to the user's code (birth.py, flow_process.py), in a run directory of
their own. The agent and `doctor` ask for this, because what a host gives cannot be judged by its version.
"""

import json
import os
import signal
from typing import Any, Dict, NoReturn, Optional

from flowherd_runner import channel, osapi
from flowherd_runner.birth import be_born
from flowherd_runner.contract.isolation import LEVELS, NETWORKS, Isolation
from flowherd_runner.contract.spec import RunSpec, spec_to_json
from flowherd_runner.contract.variables import KIND_COMMAND
from flowherd_runner.isolation.confirmation import confirmed

#: How long all of it may take, seconds; usually some tenths of a second.
_TIMEOUT_S = 20
_MAX_ANSWER_BYTES = 64 * 1024


def try_all(directory: str, fd: int) -> NoReturn:
    """Write what was found to `fd` as one JSON object, and exit.

    By level and network: {"in_force": {...}}, as in `started`, or {"why_not": "a sentence"}. `directory` takes the run
    directories, and the caller removes it. Also ends when that takes too long, and all that it has started with it.
    """
    answer = os.dup(fd)  # a runner has /dev/null for standard output
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_TIMEOUT_S)
    found: Dict[str, Dict[str, Any]] = {}
    for level in LEVELS[1:]:
        found[level] = {network: _tried(directory, level, network) for network in NETWORKS}
    os.write(answer, json.dumps(found).encode())
    os._exit(0)


def _tried(directory: str, level: str, network: str) -> Dict[str, Any]:
    """Return what came of one of them, from a process that may get a user namespace."""
    reading, writing = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            osapi.die_with_parent(parent)
            os.close(reading)
            _be_runner(os.path.join(directory, "{}-{}".format(level, network)), level, network, writing)
        except BaseException as error:  # nothing may return into the loop above
            os.write(writing, json.dumps({"why_not": _words(error)}).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        data = file.read(_MAX_ANSWER_BYTES)
    os.waitpid(pid, 0)
    return json.loads(data.decode()) if data else {"why_not": "the trial ended before it could say what is in force"}


def _be_runner(directory: str, level: str, network: str, fd: int) -> None:
    os.mkdir(directory, 0o700)
    asked = Isolation(level, network, if_missing="weaker", covered=(directory,))
    spec = RunSpec(os.path.basename(directory), kind=KIND_COMMAND, target={"argv": ["true"]}, isolation=asked)
    content = json.dumps(dict(spec_to_json(spec), contract=1)).encode()
    with open(os.path.join(directory, "spec.json"), "wb") as file:
        file.write(content)
    osapi.forbid_inspection()
    newborn = be_born(kept_fds={}, apart=True)
    newborn.flow.give(directory, content)
    found = confirmed(newborn.flow, asked)
    refused = [text for text in map(_not_started, found.early) if text]
    newborn.flow.end()
    answer = (
        {"why_not": refused[0]} if refused else {"in_force": _of_every_run(found.record, os.path.dirname(directory))}
    )
    os.write(fd, json.dumps(answer).encode())


def _of_every_run(in_force: Optional[Dict[str, Any]], place: str) -> Optional[Dict[str, Any]]:
    """Return what is in force without what names the trial's own place, which is true of no run."""
    if in_force is None:
        return None
    return dict(in_force, missing=[one for one in in_force.get("missing", ()) if place not in one["what"]])


def _not_started(received: channel.Received) -> str:
    try:
        return str(channel.decode(received.data).get("not_started", ""))
    except ValueError:
        return ""


def _words(error: BaseException) -> str:
    return "{}: {}".format(type(error).__name__, error)
