"""The rows of a run's log as HTML: number, time, source, text; tracebacks folded to the line that names the exception.

Made without templates, because a page has a thousand of them. Everything in a row is escaped here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import NamedTuple

from flowherd.shown_text import one_line
from flowherd.web.terminal_text import StyledText, html_of, terminal_text

_WARNING, _ERROR = 30, 40
#: The first line of a traceback of Python; that of an exception group is indented as a whole.
_TRACEBACK = re.compile(r"([\s|+]*)(?:Exception Group )?Traceback \(most recent call last\):")
#: What stands between the tracebacks of exceptions that caused each other.
_CHAINED = re.compile(r"(?:During handling of the above exception|The above exception was the direct cause)")
_INDENTED = re.compile(r"[\s|+]")
#: Longest summary of a folded traceback, characters.
_SUMMARY_CHARS = 500


class LogRow(NamedTuple):
    """One line of a run's log."""

    #: Place in the order of arrival, from 1: what links name. 0 for text of an unfinished line.
    number: int
    at: datetime
    #: "stdout", "stderr" or "flowherd"; for a logging record its level.
    source: str
    #: Number of its logging level.
    level: int
    #: The text, or its begin.
    message: str
    #: Number of characters that `message` lacks at its end.
    cut: int = 0


@dataclass(frozen=True)
class LogMarks:
    """What of the rows is marked."""

    #: What was searched for.
    found: re.Pattern[str] | None = None
    #: The row that the search stands at, or that a link leads to.
    here: int | None = None


def search_pattern(text: str) -> re.Pattern[str] | None:
    """Return what finds `text` as the server's search does: upper and lower case of ASCII letters are the same."""
    return re.compile(re.escape(text), re.IGNORECASE | re.ASCII) if text else None


def rows_html(rows: Iterable[LogRow], marks: LogMarks = LogMarks(), *, fold: bool = True) -> Iterator[str]:
    """Yield the HTML of the rows, each piece whole elements. With `fold`, tracebacks are folded."""
    shown = [_Shown(row, terminal_text(row.message)) for row in rows]
    first = 0
    while first < len(shown):
        end = _end_of_traceback(shown, first) if fold else first + 1
        yield _row(shown[first], marks) if end == first + 1 else _folded(shown[first:end], marks)
        first = end


class _Shown(NamedTuple):
    row: LogRow
    styled: StyledText


def _end_of_traceback(shown: Sequence[_Shown], first: int) -> int:
    """Return the place after the traceback that begins at `first`; that after this row if none does."""
    source, end = shown[first].row.source, first + 1
    begin = _TRACEBACK.match(shown[first].styled.text)
    if begin is None:
        return end

    def text(place: int) -> str | None:
        if place >= len(shown) or shown[place].row.source != source:
            return None
        return shown[place].styled.text

    while True:
        while (line := text(end)) is not None and _INDENTED.match(line):
            end += 1
        if line is None or begin[1]:
            return end
        place = end = end + 1  # after the exception
        while (line := text(place)) is not None and (not line.strip() or _CHAINED.match(line)):
            place += 1
        if line is None or not (begin := _TRACEBACK.match(line)):
            return end
        end = place + 1


def _folded(shown: Sequence[_Shown], marks: LogMarks) -> str:
    """Return a traceback of several rows; its summary is the last line, which names the exception."""
    first = shown[0].row
    named = [each.styled.text for each in shown if each.styled.text.strip()][-1]
    is_open = any(_is_marked(each, marks) for each in shown)
    summary = _summary(first, named, len(shown), marks)
    rows = "".join(_row(each, marks) for each in shown)
    return f'<details class="fold"{" open" if is_open else ""}>{summary}{rows}</details>\n'


def _is_marked(shown: _Shown, marks: LogMarks) -> bool:
    return shown.row.number == marks.here or bool(marks.found and marks.found.search(shown.styled.text))


def _summary(row: LogRow, text: str, lines: int, marks: LogMarks) -> str:
    said = html_of(StyledText(text[:_SUMMARY_CHARS].strip()), escape, marks.found)
    classes = f"r {_class(row.level, row.source)}".strip()
    return (
        f'<summary class="{classes}"><span class="no">{row.number}</span>{_time(row.at)}'
        f'<span class="src">{escape(one_line(row.source))}</span>'
        f'<span class="say">{said} <small>traceback, {lines} lines</small></span></summary>'
    )


def _row(shown: _Shown, marks: LogMarks) -> str:
    row, styled = shown
    number = row.number
    classes = f"r {_class(row.level, row.source)}".strip() + (" here" if number and number == marks.here else "")
    link = f'<a class="no" href="#L{number}" aria-label="Link to line {number}">{number}</a>'
    place = f' id="L{number}"' if number else ""
    return (
        f'<div{place} class="{classes}">{link if number else "<span></span>"}{_time(row.at)}'
        f'<span class="src">{escape(one_line(row.source))}</span><span class="say">{_said(row, styled, marks)}</span>'
        "</div>\n"
    )


def _said(row: LogRow, styled: StyledText, marks: LogMarks) -> str:
    more = f" <small>{row.cut:,} more characters are in the plain text</small>" if row.cut else ""
    fold = _fold_within(styled, marks)
    return (html_of(styled, escape, marks.found) if fold is None else fold) + more


def _fold_within(styled: StyledText, marks: LogMarks) -> str | None:
    """Return the HTML of a message of several lines that ends with a traceback; None if it has none."""
    text = styled.text
    begin = text.find("\n") + 1
    while begin and not _TRACEBACK.match(text, begin):
        begin = text.find("\n", begin) + 1
    if not begin:
        return None
    trace = text[begin:]
    named = [line for line in trace.split("\n") if line.strip()][-1]
    head = StyledText(text[: begin - 1], tuple(_until(begin - 1, styled)))
    is_open = bool(marks.found and marks.found.search(trace))
    said = html_of(StyledText(named.strip()[:_SUMMARY_CHARS]), escape, marks.found)
    lines = trace.rstrip("\n").count("\n") + 1
    return (
        f"{html_of(head, escape, marks.found)}<details{' open' if is_open else ''}>"
        f"<summary>{said} <small>traceback, {lines} lines</small></summary>"
        f"{html_of(StyledText(trace), escape, marks.found)}</details>"
    )


def _until(end: int, styled: StyledText) -> Iterator[tuple[int, int, str]]:
    return ((first, min(last, end), classes) for first, last, classes in styled.styles if first < end)


def _class(level: int, source: str) -> str:
    if level >= _ERROR:
        return "e"
    if level >= _WARNING:
        return "w"
    return "f" if source == "flowherd" else ""


def _time(at: datetime) -> str:
    """Return a time of day in the server's zone until the script shows it in the reader's."""
    local = at.astimezone()
    iso = local.isoformat(timespec="milliseconds")
    return f'<time data-at="{iso}" title="{iso}">{local:%H:%M:%S}.{local.microsecond // 1000:03d}</time>'
