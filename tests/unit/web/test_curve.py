"""The curve of a run: what is drawn, and what it says to those who do not see it."""

from __future__ import annotations

import re

import pytest

from flowherd.web.curve import CurvePoint, draw_curve

GIB = 1 << 30


def points(*memory: int | None) -> list[CurvePoint]:
    return [CurvePoint(1000.0 + 60 * n, value, 50.0 * n) for n, value in enumerate(memory)]


def test_memory_cpu_and_limit_are_drawn_within_the_picture() -> None:
    curve = draw_curve(points(GIB // 10, GIB, 2 * GIB, 3 * GIB), 2 * GIB)
    assert curve is not None
    assert curve.unit == "GiB"
    assert all(f'class="{name}"' in curve.svg for name in ("mem", "memf", "cpu", "lim", "grid"))
    assert "limit 2 GiB" in curve.svg
    heights = [float(y) for path in re.findall(r' d="M([^"Z]*)', curve.svg) for _, y in map(str.split, path.split("L"))]
    assert heights
    assert all(10 <= y <= 166 for y in heights)


def test_the_label_says_what_the_curve_shows() -> None:
    curve = draw_curve(points(GIB, 3 * GIB, 2 * GIB), 4 * GIB)
    assert curve is not None
    said = re.search('aria-label="([^"]*)"', curve.svg)
    assert said is not None
    assert said[1] == (
        "Memory began at 1 GiB, was 3 GiB at most and 2 GiB in the end; its limit is 4 GiB; "
        "CPU was 100 percent at most and 50 percent on average"
    )


def test_a_limit_far_above_is_not_drawn() -> None:
    curve = draw_curve(points(GIB // 100, GIB // 50), 8 * GIB)
    assert curve is not None
    assert curve.unit == "MiB"
    assert 'class="lim"' not in curve.svg


@pytest.mark.parametrize("memory", [(), (GIB,), (None, None, GIB)])
def test_without_two_figures_nothing_is_drawn(memory: tuple[int | None, ...]) -> None:
    assert draw_curve(points(*memory)) is None


@pytest.mark.parametrize("most", [1, 900, 123_456, 5 * GIB, 777 * GIB])
def test_any_size_has_a_scale(most: int) -> None:
    curve = draw_curve(points(0, most))
    assert curve is not None
    numbers = [float(text) for text in re.findall(r'text-anchor="end">([0-9.]+)<', curve.svg)]
    assert len(set(numbers)) == 6
