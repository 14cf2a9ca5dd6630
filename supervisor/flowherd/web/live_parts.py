"""The parts of a page that change while somebody looks at it.

A template wraps each in a call block: `{% call frame.part("run-1", "tr", into="running") %}<td>…</td>{% endcall %}`.
The element has the id and the version of its content, so that the script of a page and the server know of each other
what has changed, and whole parts are sent only when they have. What stands in an element with `data-since` or
`data-until` (a time, from or until which the script counts) is no change.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

#: Text that the script keeps up to date.
_TICKING = re.compile(r"(<[a-z]+[^>]* data-(?:since|until)=[^>]*>)[^<]*")
_WITHOUT_TEXT = r"\1"


@dataclass(frozen=True)
class Part:
    """One part of a page."""

    #: The element, as HTML.
    html: str
    #: Tells its content from another.
    version: str
    #: Id of the element that it stands in, if parts come and go there, and of the part before it; else empty.
    into: str = ""
    after: str = ""


class Parts:
    """The parts of a page that is being rendered."""

    def __init__(self) -> None:
        self.found: dict[str, Part] = {}
        self._last: dict[str, str] = {}

    def part(
        self, id: str, tag: str = "div", classes: str = "", into: str = "", *, caller: Callable[[], Any], **more: str
    ) -> Any:
        """Return the element with this id, which holds what `caller` returns; `more` are attributes, `_` for `-`."""
        from markupsafe import Markup

        content = str(caller())
        given = {"class": classes, **{name.replace("_", "-"): value for name, value in more.items()}}
        attributes = "".join(f' {name}="{escape(value)}"' for name, value in given.items() if value)
        lasting = _TICKING.sub(_WITHOUT_TEXT, content) + attributes + into
        version = f"{zlib.crc32(lasting.encode()):08x}"
        html = f'<{tag} id="{escape(id)}" data-v="{version}"{attributes}>{content}</{tag}>'
        self.found[id] = Part(html, version, into, self._last.get(into, "") if into else "")
        if into:
            self._last[into] = id
        return Markup(html)


def changes(before: Mapping[str, Part], now: Mapping[str, Part]) -> tuple[dict[str, Part], list[str]]:
    """Return the parts that are new or have changed, and the ids of those that are gone."""
    changed = {id: part for id, part in now.items() if id not in before or before[id].version != part.version}
    return changed, [id for id in before if id not in now]
