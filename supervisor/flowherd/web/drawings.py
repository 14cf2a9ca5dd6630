"""Small pictures as SVG: bars, sparklines, strips, day charts. Numbers stand in attributes, since the content security
policy allows no inline style. Each has a label that says what a sighted person sees.

All functions return HTML; the templates have them as functions of the same names.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from flowherd.shown_text import one_line
from flowherd.web.marks import Mark


def _svg(classes: str, width: int, height: int, label: str, content: str) -> str:
    return (
        f'<svg class="{escape(classes)}" viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(one_line(label))}">{content}</svg>'
    )


def glyph(mark: Mark) -> str:
    """Draw a state's glyph alone, hidden from readers of the screen."""
    return f'<svg viewBox="0 0 16 16" aria-hidden="true">{mark.glyph}</svg>'


def state(mark: Mark, word: str = "") -> str:
    """Draw a state: glyph and word, or another word such as `Failed 3 times`. On a phone in a table the glyph alone."""
    return (
        f'<span class="st {mark.tone}">{glyph(mark)}<span class="w">{escape(one_line(word or mark.word))}</span></span>'
    )


def bar(share: float, label: str, tone: str = "run", marker: float | None = None) -> str:
    """Draw a bar that is filled to `share` (0 to 1, more is drawn as 1), with a mark at `marker`."""
    filled = max(0.0, min(1.0, share)) * 100
    at = "" if marker is None else f'<rect class="mk" x="{max(0.0, min(1.0, marker)) * 99:.1f}" width="1" height="6"/>'
    content = (
        f'<rect class="bg" width="100" height="6" rx="1"/><rect class="fg" width="{filled:.1f}" height="6" rx="1"/>'
    )
    return _svg(f"bar {tone}", 100, 6, label, content + at)


def sparkline(
    values: Sequence[float], label: str, tone: str = "", *, top: float | None = None, size: tuple[int, int] = (80, 18)
) -> str:
    """Draw values, the oldest first and evenly apart, on a scale from 0 to `top` (or their own maximum)."""
    width, height = size
    if len(values) < 2:
        return ""
    most = max(top or 0.0, *values) or 1.0
    step = width / (len(values) - 1)
    points = [f"{n * step:.1f} {height - 1 - max(0.0, v) / most * (height - 2):.1f}" for n, v in enumerate(values)]
    line = "M" + "L".join(points)
    area = f'<path class="area" d="{line}L{width} {height}L0 {height}Z"/>'
    return _svg(f"spark {tone}".strip(), width, height, label, f'{area}<path d="{line}"/>')


def draw_day(columns: Sequence[tuple[int, int, int]], label: str) -> str:
    """Draw runs that ended, a column for each span of time: (well, badly, cancelled)."""
    height, width = 72, 480
    most = max((sum(column) for column in columns), default=0) or 1
    step = width / max(1, len(columns))
    parts = []
    for n, column in enumerate(columns):
        bottom = float(height)
        for number, kind in zip(column, ("ok", "bad", "stop"), strict=True):
            if number:
                tall = max(3.0 if kind == "bad" else 1.0, number / most * (height - 6))
                bottom -= tall
                parts.append(
                    f'<rect class="{kind}" x="{n * step + 1:.1f}" y="{bottom:.1f}" width="{step - 2:.1f}" '
                    f'height="{tall:.1f}"/>'
                )
                bottom -= 1
    return _svg("day", width, height, label, "".join(parts))


def dots(kinds: Sequence[str], label: str) -> str:
    """Draw the last runs of a flow as small blocks, the oldest first; kinds are ok, bad, stop, run and wait."""
    heights = {"ok": (5, 6), "bad": (1, 14), "stop": (5, 6), "run": (3, 10), "wait": (5, 6)}
    blocks = "".join(
        f'<svg viewBox="0 0 8 16" aria-hidden="true"><rect class="{kind}" x="1" y="{heights[kind][0]}" width="6" '
        f'height="{heights[kind][1]}"/></svg>'
        for kind in kinds
    )
    return f'<span class="dots" role="img" aria-label="{escape(one_line(label))}">{blocks}</span>'
