"""The findings of `flowherd doctor` on one screen: what is to be done, and the names of the rest."""

from __future__ import annotations

from collections.abc import Sequence

from flowherd.cli.doctor.finding import Finding
from flowherd.cli.tables.fold import Screen, fold

#: Numbers of lines that a finding and its advice may take, tried from the first on until all fit.
_LINES = ((6, 6), (3, 3), (2, 2), (1, 2), (1, 1))
#: What stands before an advice.
_ADVICE = "      -> "
_STYLES = {"bad": "bad", "warn": "warn"}


def short_view(findings: Sequence[Finding], screen: Screen) -> None:
    """Put the findings on the screen: what is bad, then the warnings, then in one sentence what is well."""
    wrong = [x for grade in ("bad", "warn") for x in findings if x.grade == grade]
    well = [x.check for x in findings if x.grade == "ok"]
    bad = sum(x.grade == "bad" for x in wrong)
    summary = f"{len(well)} ok, {_number(len(wrong) - bad, 'warning')}, {bad} bad"
    room = screen.left - 4 - len(fold(", ".join(well), screen.width, None, _label("ok")))
    lines = next((one for one in _LINES if sum(_height(x, screen, *one) for x in wrong) <= room), _LINES[-1])
    shown = wrong
    while shown and sum(_height(x, screen, *lines) for x in shown) > room:
        shown = shown[:-1]
    for finding in shown:
        detail, advice = lines
        screen.add(_said(finding), style=_STYLES[finding.grade], most=detail, label=_label(finding.grade))
        if finding.advice:
            screen.add(finding.advice, most=advice, label=_ADVICE)
    if len(shown) < len(wrong):
        screen.add_line(f"{len(wrong) - len(shown)} more, among them {', '.join(x.check for x in wrong[len(shown) :])}")
    if well:
        screen.add(", ".join(well), label=_label("ok"))
    more = "; whole sentences: --all" if screen.is_cut else "; details: --all"
    screen.add_line(summary + more)


def _said(finding: Finding) -> str:
    return f"{finding.check}: {finding.detail}"


def _label(grade: str) -> str:
    return f"{grade:<4}  "


def _height(finding: Finding, screen: Screen, detail: int, advice: int) -> int:
    height = len(fold(_said(finding), screen.width, detail, _label(finding.grade)))
    return height + (len(fold(finding.advice, screen.width, advice, _ADVICE)) if finding.advice else 0)


def _number(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
