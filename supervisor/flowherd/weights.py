"""Weights of runs, which decide how much of the host a run gets beside others: checked, and in words.

They have the names of the object `weights` of spec.json (flowherd_runner/contract/weights.py): in a run config, in the
settings of [runs], and as keys of a project file.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from flowherd_runner.contract.files import read_content
from flowherd_runner.contract.weights import Weights, io_priority

NAMES = Weights._fields
#: How far above the agent's own the oom_score_adj of its runs is, if nothing else was chosen: the kernel then ends a
#: run before an agent that has up to a tenth of the host's memory more, while a program that has eaten the memory up
#: still comes first.
OOM_ABOVE_AGENT = 100
_MOST_OOM = 1000


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weights that are not None. Raises ValueError, whose text begins with the name of a wrong one."""
    unknown = [name for name in given if name not in NAMES]
    if unknown:
        raise ValueError(f"{unknown[0]} is no weight; weights are {', '.join(NAMES)}")
    return {name: CHECKS[name](value) for name, value in given.items() if value is not None}


def checked_io(text: str) -> str:
    """Return a class of I/O. Raises ValueError."""
    io_priority(text)
    return text


def above_agents_own() -> int:
    """Return the oom_score_adj of runs for which none was chosen, from that of this process, the agent."""
    return min(_own_oom_score() + OOM_ABOVE_AGENT, _MOST_OOM)


def before_agent(given: Mapping[str, Any]) -> str:
    """Return which of these weights would put a run before this process, the agent, in words; empty if none would."""
    own = {"nice": os.nice(0), "oom_score_adj": _own_oom_score()}
    lower = [name for name, least in own.items() if given.get(name) is not None and given[name] < least]
    return " and ".join(f"{name} {given[name]}, below the agent's own {own[name]}" for name in lower)


def in_words(given: object) -> list[str]:
    """Return the weights of a run config in words, such as "cpu 1.5" and "nice 10"; what cannot be used is left out."""
    known = given if isinstance(given, Mapping) else {}
    words = []
    for name, check in CHECKS.items():
        try:
            words.append(f"{name} {check(known[name])}")
        except (KeyError, ValueError):  # not set, or written by another program
            continue
    return words


def of_run(weights: Weights) -> list[str]:
    """Return in words what a run was given, except for the usual oom_score_adj of the runs of an agent."""
    is_usual = weights.oom_score_adj == OOM_ABOVE_AGENT
    return in_words((weights._replace(oom_score_adj=None) if is_usual else weights)._asdict())


def _own_oom_score() -> int:
    try:
        return int(read_content("/proc/self/oom_score_adj") or 0)
    except (OSError, ValueError):
        return 0


def _cores(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"cpu is a number of cores above 0, such as 0.5 or 2, not {value!r:.80}")
    return value


def _whole(name: str, least: int, most: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"{name} is a whole number from {least} to {most}, not {value!r:.80}")
        return value

    return check


def _io(value: Any) -> str:
    try:
        return checked_io(value if isinstance(value, str) else repr(value))
    except ValueError as error:
        raise ValueError(f"io: {error}") from error


#: Checks one weight, by its name: returns it, or raises ValueError.
CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "cpu": _cores,
    "nice": _whole("nice", -20, 19),
    "io": _io,
    "oom_score_adj": _whole("oom_score_adj", -_MOST_OOM, _MOST_OOM),
}
