"""What the agent makes of a fork server's ready message: its warnings, and the words for a run's log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from loguru import logger

from flowherd.values import Runtime


def report_ready(runtime: Runtime, ready: Mapping[str, Any], reported: set[str]) -> None:
    """Warn of modules that could not be preloaded, each warning once; `reported` are those that were given already."""
    for about, warning in _warnings(runtime, ready):
        key = f"{runtime.interpreter}: {about}"
        if key not in reported:
            reported.add(key)
            logger.warning("{}", warning, interpreter=runtime.interpreter)


def refusals(ready: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each module that is not preloaded because of what its import leaves behind."""
    return [
        f"{module} is not preloaded, because its import leaves what runs would share: {left}"
        for module, left in ready.get("refused", {}).items()
    ]


def how_started(runtime: Runtime, ready: Mapping[str, Any]) -> list[str]:
    """Return sentences on how a run was started, when that was not by the usual fork."""
    sentences = []
    if runtime.environment:
        names = ", ".join(name for name, _ in runtime.environment)
        sentences.append(f"Started in a fork server of its own environment ({names}).")
    if ready.get("threads", 1) > 1:
        sentences.append("Started by exec, because the fork server has threads.")
    return [*sentences, *(f"{sentence}; this run imports it itself." for sentence in refusals(ready))]


def _warnings(runtime: Runtime, ready: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what each warning is about, and its text, which may name another process each time."""
    for module, error in ready.get("failed", {}).items():
        yield f"error {module} {error}", f"Cannot preload {module}: {error}"
    for module, sentence in zip(ready.get("refused", {}), refusals(ready), strict=True):
        yield f"refused {module}", f"{sentence}; each run imports it itself"
    if ready.get("threads", 1) > 1:
        yield (
            "threads",
            f"The fork server of {runtime.interpreter} has threads, so every run starts its own interpreter (slower)",
        )
