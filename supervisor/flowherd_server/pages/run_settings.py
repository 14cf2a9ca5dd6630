"""What a run was given: parameters without their secrets, labels, limits, user, command."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowherd.isolation.levels import asked_for_in_words
from flowherd.web.formats import duration, size
from flowherd.web.shown_values import masked_text, shown_value
from flowherd.weights import in_words

#: Longest value that is shown, characters.
_MOST = 2000
_PLACE = re.compile(r"'(\{\w+\})'")


@dataclass(frozen=True, kw_only=True)
class Given:
    """One thing that a run was given."""

    word: str
    value: str = ""
    #: "default" or "masked".
    note: str = ""
    labels: Sequence[str] = ()
    is_code: bool = False


def parameters_of(run: Mapping[str, Any], flow: Mapping[str, Any]) -> list[Given]:
    """Return the parameters of a run in the order of its flow, the flow's own first."""
    values = run["parameters"] or {}
    defaults = {each.get("name"): each.get("default") for each in flow["parameters"] if isinstance(each, dict)}
    names = [*(name for name in defaults if name in values), *(name for name in values if name not in defaults)]
    found = []
    for name in names:
        text, is_masked = shown_value(name, values[name])
        is_default = name in defaults and defaults[name] is not None and defaults[name] == values[name]
        note = "masked" if is_masked else "default" if is_default else ""
        found.append(Given(word=name, value=_cut(text), note=note, is_code=True))
    return found


def settings_of(run: Mapping[str, Any], flow: Mapping[str, Any]) -> list[Given]:
    """Return how a run is run: what its run config and its flow's storage say."""
    return list(_settings(run, flow))


def _settings(run: Mapping[str, Any], flow: Mapping[str, Any]) -> Iterator[Given]:
    config = _mapping(run["run_config"])
    yield Given(word="Labels", labels=run["labels"], value="" if run["labels"] else "none")
    if limits := _limits(_mapping(config.get("limits"))):
        yield Given(word="Limits", value=", ".join(limits))
    if weights := in_words(config.get("weights")):
        yield Given(word="Weights", value=", ".join(weights))
    if isolation := asked_for_in_words(config):
        yield Given(word="Isolation", value=isolation)
    if config.get("user"):
        yield Given(word="Runs as", value=str(config["user"]))
    if config.get("working_dir"):
        yield Given(word="Directory", value=str(config["working_dir"]), is_code=True)
    names = sorted([*_mapping(config.get("env")), *_mapping(config.get("secrets"))])
    if names:  # only the names, because values may be secrets
        yield Given(word="Variables", value=", ".join(names), is_code=True)
    for key, word in (("interpreter", "Interpreter"), ("image", "Image")):
        if config.get(key):
            yield Given(word=word, value=str(config[key]), is_code=True)
    yield from _command(_mapping(flow["storage"]))


def _command(storage: Mapping[str, Any]) -> Iterator[Given]:
    argv = storage.get("argv")
    if storage.get("type") == "Command" and isinstance(argv, list):
        # A parameter's place needs no quotes: no shell reads it.
        text = _PLACE.sub(r"\1", shlex.join(map(str, argv)))
        yield Given(word="Command", value=_cut(masked_text(text)), is_code=True)
    elif storage.get("type") == "Python":
        yield Given(word="Python", value=str(storage.get("ref") or ""), is_code=True)
    elif storage.get("type"):
        yield Given(word="Storage", value=str(storage["type"]))


def _limits(limits: Mapping[str, Any]) -> list[str]:
    words = []
    for name, word, write in (
        ("memory_bytes", "memory", size),
        ("run_time_s", "run time", duration),
        ("cpu_time_s", "CPU time", duration),
        ("processes", "processes", str),
        ("open_files", "open files", str),
    ):
        value = limits.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            words.append(f"{word} {write(value)}")
    return words


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _cut(text: str) -> str:
    return text if len(text) <= _MOST else f"{text[:_MOST]}… {len(text) - _MOST:,} more characters"
