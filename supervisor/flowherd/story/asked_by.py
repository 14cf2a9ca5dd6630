"""Who created a run, cancelled it, or switched a schedule: a word for the way, and the name of the user if it is known.

"schedule", "page (alice)", "command line (alice)", "Python client (alice)"; "API" for everybody else.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

from flowherd.shown_text import storable

#: Header in which flowherd's own clients say it to flowherd's own server, percent-encoded.
BY_HEADER = "X-Flowherd-By"
BY_SCHEDULE, BY_API = "schedule", "API"
_MOST = 100
#: How a sentence continues after "Created" or "Cancelled", by the way.
_PHRASES = {
    BY_SCHEDULE: "by its schedule",
    BY_API: "through the API",
    "page": "on the page",
    "command line": "from the command line",
    "Python client": "by a Python program",
    "control socket": "over its agent's control socket",
}


def asked_by(way: str, user: str = "") -> str:
    """Return the text for a way and the name of a user."""
    return f"{way} ({user})"[:_MOST] if user else way


def by_header(by: str) -> str:
    """Return the text as the header's value."""
    return quote(by, safe=" ()")


def read_by(header: str | None) -> str:
    """Return the text in a header's value; "API" if there is none."""
    text = "" if header is None else storable(unquote(header, errors="replace")).strip()
    return text[:_MOST] or BY_API


def by_phrase(by: str | None) -> str:
    """Return how a sentence continues: "on the page by alice"; empty if it is not known who it was."""
    way, _, user = (by or "").partition(" (")
    if not way:
        return ""
    user = user.removesuffix(")")
    phrase = _PHRASES.get(way)
    if phrase is None:
        return f"by {by}"
    return f"{phrase} by {user}" if user and way != "Python client" else f"{phrase} of {user}" if user else phrase
