"""Fill the placeholders `{{ name }}` of a work pool's job template as Prefect 3's workers do; sends no request.

There are four kinds of placeholders: a job variable; `$NAME`, a variable of the worker's own environment; and
`prefect.blocks.TYPE.NAME[.KEY]` and `prefect.variables.NAME`, which are stored on the server and are looked up after
the others are filled in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

BLOCKS = "prefect.blocks."
VARIABLES = "prefect.variables."
_PLACEHOLDER = re.compile(r"{{\s*([\w.\-\[\]$]+)\s*}}")
#: Maximum depth of a template; real ones are far less deep.
_MAX_LEVELS = 50


class _Marker:
    """Stands in for the value of a placeholder that has none."""


#: The placeholder has no value.
UNSET = _Marker()
#: The placeholder is filled in by a later step and stays in the text.
_KEPT = _Marker()


def fill_in_variables(template: Any, variables: Mapping[str, Any], environ: Mapping[str, str]) -> Any:
    """Return `template` with job variables and `$NAME`s filled in.

    A string that is one placeholder becomes the variable's value with its type; a key without a value is left out.
    Within other text a value becomes a string, and a missing one becomes empty.

    Raises ValueError if the template is nested too deeply.
    """

    def alone(name: str) -> Any:
        return _KEPT if _is_on_server(name) or name.startswith("$") else look_up_path(variables, name)

    def within_text(name: str) -> Any:
        if _is_on_server(name):
            return _KEPT
        return environ.get(name.lstrip("$"), UNSET) if name.startswith("$") else look_up_path(variables, name)

    return _replace(template, alone, within_text, _MAX_LEVELS)


def fill_in_stored(template: Any, prefix: str, look_up: Callable[[str], Any]) -> Any:
    """Return `template` with the placeholders filled in whose names begin with `prefix`.

    `look_up` gets their names without the prefix. Raises ValueError if a block's value is a list or an object and has
    other text around it.
    """

    def alone(name: str) -> Any:
        return look_up(name.removeprefix(prefix)) if name.startswith(prefix) else _KEPT

    def within_text(name: str) -> Any:
        value = alone(name)
        if prefix == BLOCKS and isinstance(value, list | dict):
            raise ValueError(f"{{{{ {name} }}}} is a list or an object, which cannot be put into other text")
        return value

    return _replace(template, alone, within_text, _MAX_LEVELS)


def look_up_path(values: Any, path: str) -> Any:
    """Return the value at a dotted path with indexes, as in `a.b[0].c`; UNSET if there is none."""
    for key in path.replace("[", ".").replace("]", "").split("."):
        try:
            values = values[int(key)] if isinstance(values, list) else values[key]
        except (KeyError, IndexError, TypeError, ValueError):
            return UNSET
    return values


def _is_on_server(name: str) -> bool:
    return name.startswith((BLOCKS, VARIABLES))


def _replace(template: Any, alone: Callable[[str], Any], within_text: Callable[[str], Any], levels: int) -> Any:
    """Return `template` with placeholders replaced by what the functions return for one alone and one within text."""
    if levels == 0:
        raise ValueError("the job template is nested too deeply")
    if isinstance(template, str):
        return _replace_in_text(template, alone, within_text)
    if isinstance(template, list):
        items = [_replace(item, alone, within_text, levels - 1) for item in template]
        return [item for item in items if item is not UNSET]
    if isinstance(template, Mapping):
        pairs = {key: _replace(value, alone, within_text, levels - 1) for key, value in template.items()}
        return {key: value for key, value in pairs.items() if value is not UNSET}
    return template


def _replace_in_text(template: str, alone: Callable[[str], Any], within_text: Callable[[str], Any]) -> Any:
    only = _PLACEHOLDER.fullmatch(template)
    if only is not None:
        value = alone(only[1])
        if value is not _KEPT:
            return value

    def replacement(match: re.Match[str]) -> str:
        value = within_text(match[1])
        if value is _KEPT:
            return match[0]
        return "" if value is UNSET else str(value)

    return _PLACEHOLDER.sub(replacement, template)
