"""Texts in a form that two runs of the same flow share: ids, times and addresses are replaced by words."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: What differs between any two runs, and the word in its place.
PARTICULARS = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "UUID"),
    (re.compile(r"0x[0-9a-f]+"), "ADDRESS"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?"), "TIME"),
    (re.compile(r"\b([Pp][Ii][Dd])([ =:]+)\d+"), r"\1\2PID"),
)


def normalised(text: str, particulars: Iterable[tuple[re.Pattern[str], str]]) -> str:
    """Replace what each pattern matches by its word."""
    for pattern, word in particulars:
        text = pattern.sub(word, text)
    return text
