"""The result of a check of `flowherd doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Grade = Literal["ok", "warn", "bad"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The state of one thing that an agent needs."""

    check: str
    grade: Grade
    detail: str
    #: What to do; empty if there is nothing to do.
    advice: str = ""


def ok(check: str, detail: str) -> Finding:
    """Return the finding that all is well."""
    return Finding(check=check, grade="ok", detail=detail)


def warn(check: str, detail: str, advice: str) -> Finding:
    """Return the finding that something works, but less well than it could."""
    return Finding(check=check, grade="warn", detail=detail, advice=advice)


def bad(check: str, detail: str, advice: str) -> Finding:
    """Return the finding that runs cannot be started, or can be lost, until something is done."""
    return Finding(check=check, grade="bad", detail=detail, advice=advice)
