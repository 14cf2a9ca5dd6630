"""Rendering: templates of this package and of the one whose pages they are. jinja2 is imported with the first page.

Whatever a template prints is escaped twice over: markup by jinja2, and controls, line breaks and directional marks by
`shown_text.one_line`. A text of several lines goes through the filter `lines`. Templates have:

- the filters `duration`, `about`, `size`, `count`, `percent`, `lines`, and
  `at`, from microseconds since the epoch to a time
- the functions of drawings.py (`state`, `glyph`, `bar`, `sparkline`, `draw_day`, `dots`), `mark_of`, `counted`
- `when(at)`: a `<time>` element that the script shows in the reader's zone; `at` is an aware datetime
- `going_on(since)` and `until_then(at)`: how long it has been or will be, which the script counts on
- `static(name)`: the address of a static file
- macros: `{% import "macros.html" as m %}`
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import cache, wraps
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from flowherd import shown_text
from flowherd.web import drawings, formats, marks
from flowherd.web.process_rows import cpu_time
from flowherd.web.static import static_address

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def render(package: str, template: str, **values: Any) -> str:
    """Return a page. Its template is in `templates/` of `package` or of this one.

    Raises jinja2.TemplateError for a template that is missing or names a value that is not given.
    """
    return environment(package).get_template(template).render(**values)


@cache
def environment(package: str) -> jinja2.Environment:
    """Return the environment of the pages of a package."""
    import jinja2

    def source(name: str) -> str | None:
        for each in (package, "flowherd.web"):
            file = files(each).joinpath(f"templates/{name}")
            if file.is_file():
                return file.read_text(encoding="utf-8")
        return None

    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_one_line,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "duration": formats.duration,
        "about": formats.about,
        "size": formats.size,
        "count": formats.count,
        "percent": formats.percent,
        "at": lambda us: None if us is None else _EPOCH + timedelta(microseconds=us),
        "html": _markup(str),
        "cpu_time": cpu_time,
        "lines": _markup(lambda text: escape(shown_text.lines(str(text)))),
    }
    made.globals |= {
        each.__name__: _markup(each)
        for each in (
            drawings.glyph,
            drawings.state,
            drawings.bar,
            drawings.sparkline,
            drawings.draw_day,
            drawings.dots,
            when,
            going_on,
            until_then,
        )
    }
    made.globals |= {
        "counted": formats.counted,
        "until": formats.until,
        "mark_of": marks.mark_of,
        "marks": marks,
        "static": static_address,
    }
    return made


def when(at: datetime | None, *, seconds: bool = False, exact: bool = False, prefix: str = "") -> str:
    """Return a time as a `<time>` element, in the server's zone until the script shows it in the reader's.

    `exact` has seconds with their thousandths.
    """
    if at is None:
        return ""
    local = at.astimezone()
    text = formats.clock(local, datetime.now(timezone.utc), seconds=seconds or exact)
    text += f".{local.microsecond // 1000:03d}" if exact else ""
    kind = f' data-seconds="{3 if exact else 1}"' if seconds or exact else ""
    iso = local.isoformat(timespec="milliseconds" if exact else "seconds")
    return f'{escape(prefix)}<time datetime="{iso}" title="{iso}"{kind}>{text}</time>'


def going_on(since: datetime) -> str:
    """Return how long something goes on, which the script counts on."""
    return _counted("since", since, formats.duration((datetime.now(timezone.utc) - since).total_seconds()))


def until_then(at: datetime) -> str:
    """Return how far away a time is, which the script counts on."""
    return _counted("until", at, formats.until((at - datetime.now(timezone.utc)).total_seconds()))


def _counted(kind: str, at: datetime, text: str) -> str:
    return f'<span data-{kind}="{at.astimezone().isoformat(timespec="milliseconds")}">{text}</span>'


def _one_line(value: Any) -> Any:
    """Return what a template prints: HTML of ours and numbers as they are, text without controls."""
    if value is None:
        return ""
    return shown_text.one_line(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _markup(function: Callable[..., str]) -> Callable[..., Markup]:
    """Return the function with its HTML marked as such."""
    from markupsafe import Markup

    @wraps(function)
    def marked(*arguments: Any, **named: Any) -> Markup:
        return Markup(function(*arguments, **named))

    return marked
