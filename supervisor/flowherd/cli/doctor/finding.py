"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Grade = Literal["ok", "warn", "bad"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """How one thing is. `advice` says what to do, and is empty where nothing is to be done."""

    check: str
    grade: Grade
    detail: str
    advice: str = ""


def ok(check: str, detail: str) -> Finding:
    """All is well."""
    return Finding(check=check, grade="ok", detail=detail)


def warn(check: str, detail: str, advice: str) -> Finding:
    """It works, and less well than it could."""
    return Finding(check=check, grade="warn", detail=detail, advice=advice)


def bad(check: str, detail: str, advice: str) -> Finding:
    """Runs cannot be started, or can be lost, until something is done."""
    return Finding(check=check, grade="bad", detail=detail, advice=advice)
