"""Placeholders in a work pool's job template, `{{ name }}`, filled as Prefect 3's workers fill them. Asks nobody.

Four kinds by their names: job variables; `$NAME`, of the worker's own environment; `prefect.blocks.TYPE.NAME[.KEY]` and
`prefect.variables.NAME`, which the server holds and which are looked up after the others are filled in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

BLOCKS = "prefect.blocks."
VARIABLES = "prefect.variables."
_PLACEHOLDER = re.compile(r"{{\s*([\w.\-\[\]$]+)\s*}}")
#: Deeper than anybody nests a template.
_MOST_LEVELS = 50


class _Mark:
    """What a placeholder stands for where that is no value."""


#: It has no value.
UNSET = _Mark()
#: It is another step's to fill.
_LEFT = _Mark()


def filled(template: Any, variables: Mapping[str, Any], environ: Mapping[str, str]) -> Any:
    """`template` with job variables and `$NAME`s filled in.

    A text that is one placeholder becomes the variable's value, of whatever type; a key whose value has none is left
    out. Within other text a value is written as text, and a missing one as nothing.

    Raises ValueError when the template is nested too deeply.
    """

    def whole(name: str) -> Any:
        return _LEFT if _is_held_by_server(name) or name.startswith("$") else looked_up(variables, name)

    def part(name: str) -> Any:
        if _is_held_by_server(name):
            return _LEFT
        return environ.get(name.lstrip("$"), UNSET) if name.startswith("$") else looked_up(variables, name)

    return _replaced(template, whole, part, _MOST_LEVELS)


def resolved(template: Any, prefix: str, find: Callable[[str], Any]) -> Any:
    """`template` with what `find` returns for the placeholders whose names begin with `prefix`, without the prefix.

    Raises ValueError when a block's value has parts and is to stand within other text.
    """

    def whole(name: str) -> Any:
        return find(name.removeprefix(prefix)) if name.startswith(prefix) else _LEFT

    def part(name: str) -> Any:
        value = whole(name)
        if prefix == BLOCKS and isinstance(value, list | dict):
            raise ValueError(f"{{{{ {name} }}}} has parts and cannot stand within other text")
        return value

    return _replaced(template, whole, part, _MOST_LEVELS)


def looked_up(values: Any, path: str) -> Any:
    """What a dotted path with indexes, as in `a.b[0].c`, leads to; UNSET when it leads nowhere."""
    for key in path.replace("[", ".").replace("]", "").split("."):
        try:
            values = values[int(key)] if isinstance(values, list) else values[key]
        except (KeyError, IndexError, TypeError, ValueError):
            return UNSET
    return values


def _is_held_by_server(name: str) -> bool:
    return name.startswith((BLOCKS, VARIABLES))


def _replaced(template: Any, whole: Callable[[str], Any], part: Callable[[str], Any], levels: int) -> Any:
    """`whole` and `part` say what a placeholder stands for, alone and within other text."""
    if levels == 0:
        raise ValueError("the job template is nested too deeply")
    if isinstance(template, str):
        return _text(template, whole, part)
    if isinstance(template, list):
        items = [_replaced(item, whole, part, levels - 1) for item in template]
        return [item for item in items if item is not UNSET]
    if isinstance(template, Mapping):
        pairs = {key: _replaced(value, whole, part, levels - 1) for key, value in template.items()}
        return {key: value for key, value in pairs.items() if value is not UNSET}
    return template


def _text(template: str, whole: Callable[[str], Any], part: Callable[[str], Any]) -> Any:
    only = _PLACEHOLDER.fullmatch(template)
    if only is not None:
        value = whole(only[1])
        if value is not _LEFT:
            return value

    def written(match: re.Match[str]) -> str:
        value = part(match[1])
        if value is _LEFT:
            return match[0]
        return "" if value is UNSET else str(value)

    return _PLACEHOLDER.sub(written, template)
