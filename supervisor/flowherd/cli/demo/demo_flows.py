"""The flows of the demo: how each is registered, how it must end, and what proves that it did its work."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowherd.cli.runs.follow import Line
from flowherd.client.runs import RunView
from flowherd.config.conf_files import conf_directory
from flowherd_runner.contract import reasons

#: Memory limit of the hog: large enough that filling it takes a while, small enough for any machine.
_HOG_LIMIT = "150M"


@dataclass(frozen=True, kw_only=True)
class DemoFlow:
    """One flow of the demo."""

    name: str
    #: What it does, as a phrase: "counts the words of a file".
    what: str
    #: Arguments of `flowherd register` after its name.
    register: Sequence[str]
    #: The state in which it must end, and the reason.
    state: str
    reason: str
    #: Says what is wrong with an ended run beyond state and reason; None if nothing is.
    wrong: Callable[[RunView, Sequence[Line]], str | None]
    #: Part of a log line after which the run is cancelled; None if it ends by itself.
    cancel_after: str | None = None


def demo_flows(place: Path) -> list[DemoFlow]:
    """Return the flows. Their code and a text file for them to work on are put into the directory `place`."""
    shutil.copytree(conf_directory() / "examples", place / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    text, result = place / "text.txt", place / "words.json"
    text.write_text((place / "examples" / "README.md").read_text(encoding="utf-8") * 50, encoding="utf-8")
    parameters = ("-p", f"source={text.name}", "-p", f"result={result.name}")
    return [
        DemoFlow(
            name="wordcount",
            what="counts the words of a file",
            register=("--python", "examples/wordcount.py:count_words", *parameters),
            state="Success",
            reason=reasons.REASON_EXITED,
            wrong=lambda _run, _lines: _wrong_count(text, result),
        ),
        DemoFlow(
            name="checksum",
            what="runs sha256sum on it",
            register=("--command", "--", "sha256sum", text.name),
            state="Success",
            reason=reasons.REASON_EXITED,
            wrong=lambda _run, lines: _missing(lines, hashlib.sha256(text.read_bytes()).hexdigest()),
        ),
        DemoFlow(
            name="failing",
            what="raises an exception",
            register=("--python", "examples/failing.py:divide"),
            state="Failed",
            reason=reasons.REASON_EXCEPTION,
            wrong=lambda _run, lines: _missing(lines, "Traceback") or _missing(lines, "ZeroDivisionError"),
        ),
        DemoFlow(
            name="exit-three",
            what="exits with code 3",
            register=("--python", "examples/failing.py:exit_three"),
            state="Failed",
            reason=reasons.REASON_EXITED,
            wrong=lambda run, _lines: None if "3" in (run.message or "") else "its message lacks the exit code",
        ),
        DemoFlow(
            name="sleeper",
            what="sleeps until it is cancelled",
            register=("--python", "examples/sleeper.py:sleep_long"),
            state="Cancelled",
            reason=reasons.REASON_CANCELLED,
            wrong=lambda _run, _lines: None,
            cancel_after="waiting for process",
        ),
        DemoFlow(
            name="hog",
            what=f"takes more memory than its {_HOG_LIMIT}",
            register=("--python", "examples/hog.py:grow", "--memory", _HOG_LIMIT),
            state="Failed",
            reason=reasons.REASON_MEMORY,
            wrong=lambda _run, lines: "the limit did not end it" if _logged(lines, "nobody stopped it") else None,
        ),
    ]


def verdict(flow: DemoFlow, run: RunView, lines: Sequence[Line]) -> str | None:
    """Return what is wrong with an ended run; None if nothing is."""
    if run.state != flow.state:
        return f"ended {run.state} instead of {flow.state}"
    if run.reason != flow.reason:
        return f"its reason is {run.reason} instead of {flow.reason}"
    return flow.wrong(run, lines)


def _wrong_count(text: Path, result: Path) -> str | None:
    if not result.is_file():
        return f"it did not write {result.name}"
    # Counted in another way than the flow does it, so that the two check each other.
    words = Counter(re.findall(r"[^\W\d_]+", text.read_text(encoding="utf-8").lower()))
    wrong = {word: n for word, n in json.loads(result.read_text(encoding="utf-8")).items() if words[word] != n}
    return f"it counted wrongly: {wrong}" if wrong else None


def _logged(lines: Sequence[Line], text: str) -> bool:
    return any(text in line.message for line in lines)


def _missing(lines: Sequence[Line], text: str) -> str | None:
    return None if _logged(lines, text) else f"its log does not contain {text!r}"
