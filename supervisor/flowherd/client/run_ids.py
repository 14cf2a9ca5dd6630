"""Ids of flow runs, of which people write the beginning."""

from __future__ import annotations

import re
from uuid import UUID


def ids_that_begin_with(text: str) -> tuple[str, str] | None:
    """Return the lowest and the highest id that begin with `text`; None if no id does.

    As a range, because the dialect compares ids but not their beginnings.
    """
    digits = text.lower().replace("-", "")
    if not re.fullmatch("[0-9a-f]{1,32}", digits):
        return None
    lowest, highest = (str(UUID(digits.ljust(32, filling))) for filling in "0f")
    return (lowest, highest) if lowest.startswith(text.lower()) else None
