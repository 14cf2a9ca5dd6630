"""Draws the life of a run, section 4 of docs/design.md, as docs/pictures/life-of-a-run.svg.

`python docs/draw_life.py` writes the drawing. With `--check` it writes nothing and exits with code 1 if the drawing is
not current.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

DRAWING = Path(__file__).with_name("pictures") / "life-of-a-run.svg"

BACKEND, AGENT, FORK_SERVER, RUNNER, FLOW = "backend", "agent", "fork server", "runner", "flow process"
#: From left to right, with the middle of each lane.
LANES = {BACKEND: 190, AGENT: 400, FORK_SERVER: 590, RUNNER: 750, FLOW: 930}


@dataclass(frozen=True)
class Arrow:
    """What one process sends to another, or starts."""

    source: str
    target: str
    text: str
    #: Name of the step of the design that begins here.
    step: str = ""
    is_answer: bool = False


@dataclass(frozen=True)
class Note:
    """What one process does by itself, most of it in the run's directory."""

    lane: str
    text: str
    step: str = ""


@dataclass(frozen=True)
class Line:
    """A line over all lanes, with what holds from here on."""

    text: str


LIFE: list[Arrow | Note | Line] = [
    Arrow(AGENT, BACKEND, "which runs are due?", "Poll"),
    Arrow(BACKEND, AGENT, "this one", is_answer=True),
    Note(AGENT, "directory, lock, spec.json", "Intent"),
    Arrow(AGENT, FORK_SERVER, "the lock; prepare"),
    Arrow(FORK_SERVER, RUNNER, "fork"),
    Arrow(RUNNER, FLOW, "fork"),
    Arrow(AGENT, BACKEND, "Scheduled → Submitted", "Claim"),
    Arrow(BACKEND, AGENT, "it is yours", is_answer=True),
    Arrow(AGENT, RUNNER, "go on", "Deploy"),
    Line("From here on, agent and fork server may die: the next agent finds the directory and goes on."),
    Arrow(FLOW, RUNNER, "lines, records", "Run"),
    Note(RUNNER, "journal"),
    Note(AGENT, "reads the journal", "Forward"),
    Arrow(AGENT, BACKEND, "Running, log lines"),
    Arrow(FLOW, RUNNER, "ends", "End"),
    Note(RUNNER, "kills the rest, exit.json"),
    Arrow(RUNNER, AGENT, "frees the lock"),
    Arrow(AGENT, BACKEND, "rest of the log, final state", "Report"),
    Note(AGENT, "removes the directory"),
]

WIDTH, _TOP, _ROW, _LINE_ROW = 1010, 84, 34, 46
_STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; fill: #1f2328; }
.paper { fill: #ffffff; stroke: #d0d7de; }
.lane { stroke: #c4cbd3; stroke-dasharray: 3 4; }
.box { fill: #eaf1fb; stroke: #1d5fc4; }
.ours { fill: #e4f4f0; stroke: #006c58; }
.name, .step { font-weight: 600; }
.step { fill: #1d5fc4; }
.arrow { stroke: #1f2328; stroke-width: 1.4; fill: none; marker-end: url(#head); }
.answer { stroke-dasharray: 5 4; }
.note { fill: #fff8e5; stroke: #b58900; }
.from-here { stroke: #a81f0a; stroke-width: 1.4; }
.from-here-text { fill: #a81f0a; font-weight: 600; }
"""
#: About the width of a letter, px.
_LETTER = 6.6


def drawing() -> str:
    """Return the drawing."""
    heights = [_LINE_ROW if isinstance(event, Line) else _ROW for event in LIFE]
    height = _TOP + sum(heights) + 24
    parts = list(_frame(height))
    y = _TOP + _ROW // 2
    steps = 0
    for event, row in zip(LIFE, heights, strict=True):
        step = "" if isinstance(event, Line) else event.step
        if step:
            steps += 1
            parts.append(f'<text class="step" x="24" y="{y + 4}">{steps}. {step}</text>')
        parts += _drawn(event, y)
        y += row
    title = "The life of a run: what backend, agent, fork server, runner and flow process do, one below the other"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
    head += f'role="img" aria-label="{title}">'
    marker = (
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M 0 0 L 10 5 L 0 10 z" fill="#1f2328"/></marker></defs>'
    )
    return "\n".join([head, f"<style>{_STYLE}</style>", marker, *parts, "</svg>", ""])


def _frame(height: int) -> Iterator[str]:
    yield f'<rect class="paper" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>'
    for name, x in LANES.items():
        kind = "box" if name == BACKEND else "box ours"
        yield f'<line class="lane" x1="{x}" y1="58" x2="{x}" y2="{height - 16}"/>'
        yield f'<rect class="{kind}" x="{x - 62}" y="20" width="124" height="38" rx="6"/>'
        yield f'<text class="name" x="{x}" y="44" text-anchor="middle">{name}</text>'


def _drawn(event: Arrow | Note | Line, y: int) -> Iterator[str]:
    if isinstance(event, Arrow):
        start, end = LANES[event.source], LANES[event.target]
        kind = "arrow answer" if event.is_answer else "arrow"
        yield f'<line class="{kind}" x1="{start}" y1="{y}" x2="{end}" y2="{y}"/>'
        # Above the arrow, at the side of its source, so that it never stands on a lane in between.
        beside = LANES[_next_lane(event.source, event.target)]
        yield f'<text x="{(start + beside) // 2}" y="{y - 5}" text-anchor="middle">{escape(event.text)}</text>'
    elif isinstance(event, Note):
        x, width = LANES[event.lane], round(len(event.text) * _LETTER) + 18
        yield f'<rect class="note" x="{x - width // 2}" y="{y - 13}" width="{width}" height="24" rx="4"/>'
        yield f'<text x="{x}" y="{y + 4}" text-anchor="middle">{escape(event.text)}</text>'
    else:
        yield f'<line class="from-here" x1="24" y1="{y + 6}" x2="{WIDTH - 24}" y2="{y + 6}"/>'
        yield f'<text class="from-here-text" x="24" y="{y}">{escape(event.text)}</text>'


def _next_lane(source: str, target: str) -> str:
    names = list(LANES)
    place = names.index(source)
    return names[place + (1 if names.index(target) > place else -1)]


def main() -> None:
    """Write the drawing, or check it."""
    current = drawing()
    if sys.argv[1:] == ["--check"]:
        is_current = DRAWING.exists() and DRAWING.read_text(encoding="utf-8") == current
        sys.exit(0 if is_current else f"{DRAWING} is not current; run: python {sys.argv[0]}")
    DRAWING.write_text(current, encoding="utf-8")


if __name__ == "__main__":
    main()
