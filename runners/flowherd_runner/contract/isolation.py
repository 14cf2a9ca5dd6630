"""What keeps a run apart from all that is not its own: what spec.json asks for, and what `started` says is in force.

In spec.json the object `isolation`; without it the level is "none". Runners of 0.1.0 do not know it.

    level        "none", "private" or "sealed"
    network      "host" or "none"
    if_missing   "refuse": not started if anything that was asked for is not in force; "weaker": started with what is
    write        [path]: at "sealed", what the run may change beside its working and temporary directories
    hide         [path]: covered, so that the run sees nothing of them
    covered      [path]: the same, for what is flowherd's own: home, state, sockets. Nothing in `keep` uncovers them but
                 the run's own working directory
    keep         [path]: stay reachable under a path that is covered or replaced (/tmp): interpreters, code
    own          [path]: at "sealed", the run has an empty directory of its own in the place of each, in which it can
                 write: where its engine keeps results
    floor        the agent's own level, which the flow could not lower

In `started` the object `isolation`, which describes what the flow process found in force before any user code ran:

    asked        the level that spec.json asks for
    level        the level that is in force; with "weaker" perhaps less than asked for
    network      "host" or "none"
    missing      [{what, why}]: what was asked for and is not in force, or is not to be had on this kernel
    proved       [str]: what the flow process tried, and was refused; sentences for people
    init_pid     pid of the first process of the run's pid namespace, as seen from outside; null without a namespace
"""

from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

NONE = "none"
PRIVATE = "private"
SEALED = "sealed"
#: The levels, each with all that those before it give.
LEVELS = (NONE, PRIVATE, SEALED)
NETWORKS = ("host", "none")
IF_MISSING = ("refuse", "weaker")


class Isolation(NamedTuple):
    """What spec.json asks for; the module's docstring describes the fields."""

    level: str = NONE
    network: str = "host"
    if_missing: str = "refuse"
    write: Tuple[str, ...] = ()
    hide: Tuple[str, ...] = ()
    covered: Tuple[str, ...] = ()
    keep: Tuple[str, ...] = ()
    floor: str = NONE
    own: Tuple[str, ...] = ()

    @property
    def wanted(self) -> bool:
        """Whether the run is to be kept apart in any way."""
        return self.level != NONE


class Missing(NamedTuple):
    """One thing that is not in force."""

    what: str
    why: str


class InForce(NamedTuple):
    """What `started` says; the module's docstring describes the fields."""

    asked: str = NONE
    level: str = NONE
    network: str = "host"
    missing: Tuple[Missing, ...] = ()
    proved: Tuple[str, ...] = ()
    init_pid: Optional[int] = None


def summary(found: Optional[InForce], asked: Isolation) -> str:
    """Return in words what `started` says: the first line of the run's log, and what `explain` and pages show.

    Empty for a run without a level, and for one that was not started because it did not get what was asked for.
    """
    if found is None or (found.level == NONE and asked.if_missing != "weaker"):
        return ""
    return in_words(found)


def in_words(found: InForce) -> str:
    """Return for people what is in force, what is not, and what was tried before the start."""
    if found.level == found.asked:
        head = "Kept apart: {}".format(found.level)
    elif found.level == NONE:
        head = "Not kept apart, although {} was asked for".format(found.asked)
    else:
        head = "Kept apart less than was asked for: {} instead of {}".format(found.level, found.asked)
    sentences = [head + (", without a network." if found.network == "none" else ".")]
    missing = ["{} ({})".format(one.what, one.why) if one.why else one.what for one in found.missing]
    for word, items in (("Not in force", missing), ("Tried before the start", list(found.proved))):
        if items:
            sentences.append("{}: {}.".format(word, "; ".join(items)))
    return " ".join(sentences)


def in_force_to_json(found: InForce) -> Dict[str, Any]:
    """Return the object `isolation` of `started`."""
    return dict(found._asdict(), missing=[one._asdict() for one in found.missing], proved=list(found.proved))


def in_force_of(value: object) -> InForce:
    """Return what the object `isolation` of `started` says; a damaged part says nothing."""
    if not isinstance(value, Mapping):
        return InForce()
    level, asked, network = (value.get(name) for name in ("level", "asked", "network"))
    missing, proved, pid = (value.get(name) for name in ("missing", "proved", "init_pid"))
    return InForce(
        asked=asked if asked in LEVELS else NONE,
        level=level if level in LEVELS else NONE,
        network=network if network in NETWORKS else "host",
        missing=tuple(
            Missing(str(one.get("what", "")), str(one.get("why", "")))
            for one in (missing if isinstance(missing, list) else [])
            if isinstance(one, Mapping)
        ),
        proved=tuple(map(str, proved)) if isinstance(proved, list) else (),
        init_pid=pid if isinstance(pid, int) and not isinstance(pid, bool) and pid > 0 else None,
    )
