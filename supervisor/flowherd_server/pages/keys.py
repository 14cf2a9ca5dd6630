"""The list of all keys; the script shows it as a dialog."""

from __future__ import annotations

from flowherd_server.pages.frame import Ask, Page

_KEYS = (
    (
        "Everywhere",
        (
            ("/", "find, or filter"),
            ("g o, g r, g f, g s, g a", "overview, runs, flows, schedules, agents"),
            ("?", "this list"),
            ("t", "light or dark"),
            ("Esc", "out of a field or a question"),
        ),
    ),
    (
        "Lists",
        (
            ("j, k", "down, up"),
            ("Enter", "open"),
            ("x, X", "mark, mark up to here"),
            ("l", "log"),
            ("c", "cancel"),
            ("r", "run again"),
            ("y", "copy the id"),
            ("n, p", "older, newer page"),
        ),
    ),
    (
        "A run",
        (
            ("f", "follow the log"),
            ("n, N", "next, previous match of the search"),
            ("e, E", "next, previous error"),
            ("v", "level"),
            ("w", "wrap long lines"),
            ("y", "copy the link to the line"),
            ("1 to 4", "log, story, curve, processes"),
        ),
    ),
)


def keys_page(_ask: Ask) -> Page:
    """Return the list."""
    return Page(template="keys.html", title="Keys", values={"groups": _KEYS})
