"""The headers of every page."""

from __future__ import annotations

#: Nothing is loaded, run or sent anywhere but from and to where the page came from, whatever markup a name contains.
CONTENT_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

PAGE_HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def own_path(text: str) -> str:
    """Return a path and query to go to if it leads to the same site, else nothing: an address may come from anybody."""
    is_own = text.startswith("/") and not text.startswith("//") and "\\" not in text and text.isprintable()
    return text if is_own else ""
