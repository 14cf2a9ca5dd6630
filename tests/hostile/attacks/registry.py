"""The attacks by their names, and how a flow carries them out: each in a process of its own, with a deadline."""

import json
import os
import select
import signal
import time
from typing import Any, Callable, Dict, Optional

#: What an attack is given: paths, pids and numbers that an attacker could find out or guess.
Targets = Dict[str, Any]
#: Returns what the attack has got hold of, or "" if only its traces outside show that it succeeded. Any exception is a
#: failed attack.
Attack = Callable[[Targets], str]

ATTACKS = {}  # type: Dict[str, Attack]

_ATTACK_S = 4.0
_SCENE_S = 120.0
_MAX_EVIDENCE_BYTES = 1 << 16


class Failed(Exception):
    """The attack did not get what it wanted."""


def attack(name: str) -> Callable[[Attack], Attack]:
    """Register a function as the attack of that name."""

    def register(function: Attack) -> Attack:
        assert name not in ATTACKS, name
        ATTACKS[name] = function
        return function

    return register


def act(place: str) -> None:
    """Wait for the targets in the directory `place`, attack them, leave the results there, and wait for the end.

    The files are named after the run: ID.ready, ID.targets, ID.results, ID.done.
    """
    name = os.path.join(place, os.environ["FLOWHERD_FLOW_RUN_ID"])
    write(name + ".ready", {"pid": os.getpid(), "parent": os.getppid()})
    _wait_for(name + ".targets")
    with open(name + ".targets") as file:
        targets = json.load(file)
    # First what looks through the memory, before that has what the others find.
    names = sorted(ATTACKS, key=lambda one: (one != "token-in-own-memory", one))
    write(name + ".results", {one: carry_out(ATTACKS[one], targets) for one in names})
    _wait_for(name + ".done")


def carry_out(function: Attack, targets: Targets) -> Dict[str, Optional[str]]:
    """Attack in a child process; return the evidence, or None with the reason."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            result = {"evidence": function(targets), "why": None}  # type: Dict[str, Optional[str]]
        except BaseException as error:  # whatever it is, the attack has failed
            result = {"evidence": None, "why": "{}: {}".format(type(error).__name__, error)}
        os.write(writing, json.dumps(result).encode()[:_MAX_EVIDENCE_BYTES])
        os._exit(0)
    os.close(writing)
    readable, _, _ = select.select([reading], [], [], _ATTACK_S)
    data = os.read(reading, _MAX_EVIDENCE_BYTES) if readable else b""
    os.close(reading)
    if not readable:
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    if not data:
        why = "ended by {}".format(status) if readable else "nothing happened in {} s".format(_ATTACK_S)
        return {"evidence": None, "why": why}
    return json.loads(data.decode())  # type: ignore[no-any-return]


def write(path: str, value: object) -> None:
    """Write a file that appears as a whole."""
    with open(path + ".new", "w") as file:
        json.dump(value, file)
    os.rename(path + ".new", path)


def read(path: str, limit: int = 1 << 20) -> str:
    """Return the content of a file, undecodable bytes as surrogates."""
    with open(path, "rb") as file:
        return file.read(limit).decode("utf-8", "replace")


def _wait_for(path: str) -> None:
    deadline_s = time.monotonic() + _SCENE_S
    while not os.path.exists(path):
        if time.monotonic() > deadline_s:
            raise SystemExit("nothing came at {}".format(path))
        time.sleep(0.01)
