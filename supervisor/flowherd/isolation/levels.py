"""What keeps a run apart: what its flow asks for, put together with what its agent asks for all of them.

The agent's own level is a floor: a flow gets more if it asks for more, and never less. So the stronger of both counts,
setting by setting. What a flow asks for is in its run config, as `isolation`:

    "private"                                       a level, or
    {"level": "sealed", "network": "none",          any of these
     "if_missing": "refuse", "write": ["/srv/out"], "hide": ["/srv/keys"]}

Run configs of Prefect have no room for that. So variables of a run config's `env` count too, with the names that the
settings have, such as FLOWHERD__RUNS__ISOLATION__LEVEL=sealed.
"""

from __future__ import annotations

import json
import os.path
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from flowherd_runner.contract.files import is_absent
from flowherd_runner.contract.isolation import IF_MISSING, LEVELS, NETWORKS, NONE, PRIVATE, SEALED, Isolation

_CHOICES: Mapping[str, Sequence[str]] = {"level": LEVELS, "network": NETWORKS, "if_missing": IF_MISSING}
_PATHS = ("write", "hide")
_VARIABLE = "FLOWHERD__RUNS__ISOLATION__"


class IsolationRequest(NamedTuple):
    """What a flow asks for; None leaves the agent's choice."""

    level: str | None = None
    network: str | None = None
    if_missing: str | None = None
    write: tuple[str, ...] = ()
    hide: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the object for a run config, without what is not asked for."""
        found = {name: list(value) if isinstance(value, tuple) else value for name, value in self._asdict().items()}
        return {name: value for name, value in found.items() if value}


def requested_isolation(run_config: Mapping[str, Any]) -> IsolationRequest:
    """Return what a run config asks for, as `isolation` or by variables, which are weaker. Raises ValueError."""
    env, own = run_config.get("env"), run_config.get("isolation")
    named = {
        name: _list(str(env[variable])) if name in _PATHS else env[variable]
        for name in IsolationRequest._fields
        if isinstance(env, Mapping) and env.get(variable := _VARIABLE + name.upper()) is not None
    }
    if not named:
        return read_request(own)
    read_request(own)
    given = {"level": own} if isinstance(own, str) else own or {}
    return read_request({**named, **{name: value for name, value in given.items() if value is not None}})


def without_request(run_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run config that asks for nothing of the kind."""
    found = {**run_config, "isolation": None}
    if isinstance(env := run_config.get("env"), Mapping):
        found["env"] = {name: value for name, value in env.items() if not str(name).startswith(_VARIABLE)}
    return found


def read_request(value: object) -> IsolationRequest:
    """Return what the `isolation` of a run config asks for; nothing without one.

    No network, or a path to hide, and no level ask for the level private: without a level neither is to be had.

    Raises ValueError, a sentence, for all that is not understood: a run must not be less apart because of a typo.
    """
    if value is None:
        return IsolationRequest()
    given = {"level": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping):
        raise ValueError(f"isolation is a level or an object, not {value!r:.80}")
    for name, word in given.items():
        if name in _CHOICES:
            if word not in (None, *_CHOICES[name]):
                raise ValueError(f"the {name} of isolation is one of {', '.join(_CHOICES[name])}, not {word!r:.80}")
        elif name not in _PATHS:
            raise ValueError(f"isolation has no {name!r:.80}; it has {', '.join(IsolationRequest._fields)}")
    write, hide = (_paths(name, given.get(name)) for name in _PATHS)
    level, network = given.get("level"), given.get("network")
    if (network == "none" or hide) and level in (None, NONE):
        if level == NONE:
            raise ValueError(
                f"{'hidden paths need' if hide else 'network none needs'} the level private or sealed, not none"
            )
        level = PRIVATE
    return IsolationRequest(level, network, given.get("if_missing"), write, hide)


def merged(floor: Isolation, request: IsolationRequest) -> Isolation:
    """Return what a run gets whose agent asks for `floor` and whose flow asks for `request`. Paths are real ones then.

    Those that `floor` covers must be real ones already, beside which links may be named.

    Raises ValueError, a sentence, if the flow wants to write where a floor of sealed does not let it.
    """
    level = max(floor.level, PRIVATE if floor.network == "none" else NONE, request.level or NONE, key=LEVELS.index)
    if level == NONE:
        return Isolation()
    write, more = real_paths(floor.write), real_paths(request.write)
    for path in more if floor.level == SEALED else ():
        if place_of(path, write) is None:
            allowed = f"only {', '.join(write)}" if write else "nothing"
            raise ValueError(
                f"the flow asks to write {path}, and this agent lets sealed runs write {allowed}: add it to "
                "`write` in the agent's [runs.isolation]"
            )
    return floor._replace(
        level=level,
        network="none" if "none" in (floor.network, request.network) else "host",
        if_missing="refuse" if "refuse" in (floor.if_missing, request.if_missing or floor.if_missing) else "weaker",
        write=_each_once((*write, *more)),
        hide=_each_once((*real_paths(floor.hide), *real_paths(request.hide))),
        floor=floor.level,
    )


def real_paths(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the paths, of this host, with `~` expanded and without links."""
    return tuple(os.path.realpath(os.path.expanduser(path)) for path in paths)  # noqa: PTH111 - of a missing user too


def place_of(path: str, places: Iterable[str]) -> str | None:
    """Return the first of `places` that `path` is, or lies in; None if there is none. All are absolute real paths."""
    return next((place for place in places if path == place or path.startswith(place.rstrip("/") + "/")), None)


def request_in_words(request: IsolationRequest) -> str:
    """Return what a flow asks for, for people; empty if it asks for nothing."""
    words = [request.level or ""]
    if request.network is not None:
        words.append(f"network {request.network}")
    if request.if_missing is not None:
        words.append(
            "refused if anything is missing" if request.if_missing == "refuse" else "weaker if anything is missing"
        )
    words += [
        f"{verb} {' '.join(paths)}" for verb, paths in (("writes", request.write), ("hides", request.hide)) if paths
    ]
    if request.write and request.level != SEALED:  # other levels take no writing away
        words.append("sealed only if its agent asks for that")
    return ", ".join(filter(None, words))


def places_without_effect(request: IsolationRequest) -> Iterator[str]:
    """Yield a sentence for each path that a flow names and that is not there, on this host, or counts for nothing."""
    if request.write and request.level != SEALED:
        yield "a path to write counts only for sealed runs, and these are sealed only if their agent seals all runs"
    for paths, effect in (
        (request.write, ": sealed runs cannot write to it, nor make it, until it exists"),
        (request.hide, ", so nothing is hidden: runs see what is put there after their start"),
    ):
        for path, real in zip(paths, real_paths(paths), strict=True):
            if is_absent(real):
                yield f"there is no {path} on this host{effect}"


def asked_for_in_words(run_config: Mapping[str, Any]) -> str:
    """Return what a run config asks for, for people; empty if it asks for nothing, and why if an agent refuses it."""
    try:
        return request_in_words(requested_isolation(run_config))
    except ValueError as error:
        return f"cannot be used: {error}"


def _paths(name: str, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"the {name} of isolation is a list of paths, not {value!r:.80}")
    for path in value:
        if not isinstance(path, str) or not path.startswith(("/", "~")) or "\0" in path:
            raise ValueError(f"the {name} of isolation needs absolute paths, not {path!r:.80}")
    return tuple(value)


def _list(text: str) -> list[Any]:
    """Return the paths of a variable: "a,b", or a list as JSON."""
    if text.lstrip().startswith("["):
        return list(json.loads(text))
    return [part.strip() for part in text.split(",") if part.strip()]


def _each_once(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(paths))
