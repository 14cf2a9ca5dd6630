"""The question before an action, and the list of all keys, drawn over the screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from flowherd.cli.tables.cells import width_of
from flowherd.cli.top.columns import SHORT_ID, elapsed
from flowherd.cli.top.folding import wrapped
from flowherd.cli.top.picture import RunRow
from flowherd.cli.top.spans import Line, Span, at_left, clean, fitted, line, line_width

#: Runs that a question lists at most, and the greatest width of its box.
_MOST_LISTED, _WIDEST = 8, 72


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked before something is done."""

    title: str
    #: What will happen, in sentences.
    text: str
    #: What the answer yes is called.
    yes: str
    listed: Sequence[str] = ()


def cancel_question(rows: Sequence[RunRow], now: datetime) -> Question:
    """Return the question before runs are cancelled."""
    one = len(rows) == 1
    live = sum(row.is_live for row in rows)
    if not live:
        text = "It has not started, and will not." if one else "They have not started, and will not."
    else:
        text = "Its processes are" if one else "Their processes are"
        text += " asked to end, and killed if they have not ended after the grace period."
        if live < len(rows):
            waiting = len(rows) - live
            text += f" {waiting} {'has' if waiting == 1 else 'have'} not started, and will not."
    title = "Cancel this run?" if one else f"Cancel {len(rows)} runs?"
    return Question(title=title, text=text, yes="Cancel it" if one else "Cancel them", listed=_listed(rows, now))


def retry_question(rows: Sequence[RunRow], now: datetime) -> Question:
    """Return the question before runs are started again."""
    one = len(rows) == 1
    title = "Run this again?" if one else f"Run {len(rows)} again?"
    text = "A new run of it starts" if one else "A new run of each starts"
    text += ", with the same version, parameters and labels."
    return Question(title=title, text=text, yes="Run it" if one else "Run them", listed=_listed(rows, now))


_AGENT_TEXTS = {
    "pause": "It claims no more runs until it is resumed, also after a restart. Its present runs go on.",
    "resume": "It claims runs again.",
    "drain": "It claims no more runs, and ends when its present runs have ended. Start it again with `flowherd start`.",
    "restart": "It starts again with the present code and settings. Its runs go on meanwhile.",
}


def agent_question(name: str, action: str) -> Question:
    """Return the question before an agent is asked for something."""
    return Question(title=f"{action.capitalize()} {name}?", text=_AGENT_TEXTS[action], yes=action.capitalize())


def _listed(rows: Sequence[RunRow], now: datetime) -> list[str]:
    flows = min(24, max(width_of(clean(row.flow)) for row in rows))
    names = min(20, max(width_of(clean(row.name)) for row in rows))
    listed = [
        f"{at_left(clean(row.flow), flows, middle=True)}  {at_left(clean(row.name), names, middle=True)}  "
        f"{row.id[:SHORT_ID]}  {_uses(row)}{elapsed(row, now)}"
        for row in rows[:_MOST_LISTED]
    ]
    return listed if len(rows) <= _MOST_LISTED else [*listed, f"and {len(rows) - _MOST_LISTED:,} more"]


def _uses(row: RunRow) -> str:
    count = row.figures.processes if row.figures is not None else None
    return "" if count is None else f"{count} process{'' if count == 1 else 'es'}, "


def question_lines(question: Question, width: int) -> list[Line]:
    """Return the box of a question."""
    inner = min(_WIDEST, width - 4) - 4
    body: list[Line] = [line(Span(one)) for one in question.listed]
    body += [()] if body else []
    body += wrapped(line(Span(question.text)), inner)
    answers = line(Span(f"[ {question.yes} ]", "current"), "   Enter: yes   Esc: no")
    answers = fitted(answers, inner)
    return _box(clean(question.title), [*body, (), line(" " * max(0, inner - line_width(answers)), *answers)], inner)


KEYS: Sequence[tuple[str, Sequence[tuple[str, str]]]] = (
    (
        "The list",
        (
            ("j k, arrows", "down, up"),
            ("Home End", "first row, last row"),
            ("Enter", "open the run"),
            ("l e t", "its log, its story, its processes"),
            ("space", "mark; c and r then concern what is marked"),
            ("c r", "cancel, run again"),
            ("/", "filter: state: is: flow: agent: label: since: before: took: and words"),
            ("s S", "sort by the next column, back to the one order"),
            ("a", "the agents; p pause or resume, d drain, R restart the run's agent"),
            ("y", "copy the id"),
        ),
    ),
    (
        "A run",
        (
            ("1 2 3 4", "log, story, processes, parameters"),
            ("f", "follow the log"),
            ("/ n N", "search, next, previous"),
            ("e E", "next error, previous error"),
            ("v", "level: all, warnings and errors, errors"),
            ("[", "earlier lines"),
            ("g G", "first line, last line"),
        ),
    ),
    ("Everywhere", (("?", "this list"), ("Esc", "back"), ("q", "quit"))),
)


def key_lines(width: int) -> list[Line]:
    """Return the box of all keys."""
    inner = min(84, width - 4) - 4
    body: list[Line] = []
    for title, keys in KEYS:
        body += [*([()] if body else []), line(Span(title, "bold"))]
        body += [fitted(line(Span(at_left(key, 13), "bold"), word), inner) for key, word in keys]
    return _box("Keys", body, inner)


def _box(title: str, body: Sequence[Line], inner: int) -> list[Line]:
    title = fitted(line(Span(title)), inner - 2)[0].text if title else ""
    top = f"┌ {title} " + "─" * (inner - width_of(title)) + "┐"
    rows = [fitted(one, inner) for one in body]
    middle = [line("│ ", *row, " " * (inner - line_width(row)), " │") for row in rows]
    return [line(Span(top)), *middle, line("└" + "─" * (inner + 2) + "┘")]


def over(lines: Sequence[Line], box: Sequence[Line], width: int, height: int) -> list[Line]:
    """Return the screen with a box in its middle; beside it the screen stays, its colours do not."""
    wide = max((line_width(one) for one in box), default=0)
    left, top = max(0, (width - wide) // 2), max(0, (height - len(box)) // 2)
    found: list[Line] = []
    for y in range(height):
        under = lines[y] if y < len(lines) else ()
        if not top <= y < top + len(box):
            found.append(under)
            continue
        text = at_left("".join(span.text for span in under), width)
        if len(text) == width_of(text):
            before, after = text[:left], text[left + wide :]
        else:
            before, after = " " * left, ""
        found.append(fitted(line(Span(before, "dim"), *box[y - top], Span(after, "dim")), width))
    return found
