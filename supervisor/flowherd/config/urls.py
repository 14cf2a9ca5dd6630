"""URLs as they may be shown."""

from __future__ import annotations

import re

_USER_INFORMATION = re.compile(r"(?<=://)[^/?#\s]*@")


def without_user(text: str) -> str:
    """Return a URL, or a text with URLs in it, with *** in place of a name and password."""
    return _USER_INFORMATION.sub("***@", text)
