"""Makes docs/reference/settings.md from the catalogue of settings and from the options that override them.

python -m flowherd.cli.settings_reference > docs/reference/settings.md
"""

from __future__ import annotations

import json
import textwrap
from typing import Any

from flowherd.cli import isolation_options  # noqa: F401 - its options are in FLAGS
from flowherd.cli.options import FLAGS
from flowherd.config.catalogue import (
    FILE_SUFFIX,
    LISTED,
    PREFIXES,
    RUNTIME_KEYS,
    RUNTIME_TEXT,
    SECTION_TEXTS,
    SETTINGS,
    SettingInfo,
    Shape,
)
from flowherd.config.loading import variables_of
from flowherd.config.sections import REQUIRED

#: Maximum length of a line of the page, characters.
_WIDTH = 100

_INTRODUCTION = """\
# Settings

<!-- Made by `python -m flowherd.cli.settings_reference > docs/reference/settings.md`. Do not edit
this page; change supervisor/flowherd/config/settings.py and make it again. -->

A setting has one dotted name. `cloud.agent.name`, for example, is

- the key `name` in the section `[cloud.agent]` of a configuration file,
- the variable `FLOWHERD__CLOUD__AGENT__NAME`, or the weaker `PREFECT__CLOUD__AGENT__NAME`,
- the option `--name` of `flowherd start` and of other commands. Not every setting has an option.

For each setting the strongest source wins:

1. the option, or the argument of `flowherd.LocalAgent`
2. the variable `FLOWHERD__...`
3. the variable `PREFECT__...`
4. any other variable that is listed with the setting below, except `SSL_CERT_FILE`
5. `config.toml` in flowherd's home, which is `~/.flowherd` or `FLOWHERD_HOME`; an unknown key is an
   error
6. Prefect's `~/.prefect/config.toml`, which `PREFECT__HOME_DIR` and `PREFECT__USER_CONFIG_PATH` can
   move; unknown keys are ignored
7. in the section `[prefect3]`: `.env`, `prefect.toml` and `pyproject.toml` of the directory in
   which the agent is started, then the active profile in Prefect 3's `profiles.toml`
8. `SSL_CERT_FILE`; for `cloud.api` Prefect's `server.endpoint`, or `server.host` and `server.port`
   (`cloud.endpoint` with the backend `cloud`)
9. the default

Sources 3 and 6 are read by Prefect's rules: `$NAME` is a variable of the environment and
`${section.key}` another value of the configuration. How the API is reached, and which settings of
Prefect count, is in [the way to the server](way-to-the-server.md).

`flowherd config` shows every setting with its value and where the value came from.
`conf/flowherd.toml` is a commented configuration file to start from.

In a variable, a list is written `a,b` or `["a", "b"]`, and pairs are written `A=1,B=2` or
`{"A": "1", "B": "2"}`. An empty value, `none` or `null` means that an optional setting is not set.
A secret can be in a file of mode 0600, which the variable with `_FILE` at its end names.
"""
_RUNTIMES = (
    "In a file, each runtime is a section `[[runtimes]]` of its own with the keys below. As an option it is written "
    "`--runtime 'NAME=PYTHON;labels=A,B;flows=X*;preload=M1,M2;core=0.*'`, in which everything after `NAME=PYTHON` may "
    "be left out. In the variable it is a JSON list of such objects or texts."
)


def settings_reference() -> str:
    """Return the text of the page."""
    lines = [_INTRODUCTION]
    for section, text in SECTION_TEXTS.items():
        lines += [f"## `[{section}]`" if section else "## Without a section", "", *_paragraph(text)]
        lines += [line for setting in SETTINGS.values() if setting.section == section for line in _entry(setting)]
    lines += ["## `[[runtimes]]`", "", *_paragraph(textwrap.dedent(RUNTIME_TEXT)), *_paragraph(_RUNTIMES)]
    for key in RUNTIME_KEYS.values():
        lines += _key(key)
    for dotted, (keys, text) in LISTED.items():
        lines += ["", f"## `[[{dotted}]]`", "", *_paragraph(textwrap.dedent(text))]
        lines += [line for key in keys.values() for line in _key(key)]
    return "\n".join(lines) + "\n"


def _key(key: SettingInfo) -> list[str]:
    return _item(f"`{key.dotted}`: {key.description} {_values(key).capitalize()}; default: {_default(key)}.")


def _entry(setting: SettingInfo) -> list[str]:
    prefect = setting.variable(PREFIXES[1])
    variables = [name for name in variables_of(setting.dotted) if name not in (prefect, prefect + FILE_SUFFIX)]
    return [
        f"### `{setting.dotted}`",
        "",
        *_paragraph(setting.description),
        *_item("value: " + _values(setting)),
        *_item("default: " + _default(setting)),
        *_item(("variable: " if len(variables) == 1 else "variables: ") + ", ".join(f"`{name}`" for name in variables)),
        *(_item(f"option: `{FLAGS[setting.dotted]}`") if setting.dotted in FLAGS else ()),
        "",
    ]


def _values(setting: SettingInfo) -> str:
    """Return which values a setting can have."""
    if setting.dotted == "runtimes":
        return "list of runtimes"
    if setting.dotted in LISTED:
        return "list of sections"
    if setting.shape is Shape.LIST:
        return "list of texts"
    if setting.shape is Shape.MAPPING:
        return f"pairs of names and {'whole numbers' if setting.kind is int else 'texts'}"
    if setting.choices:
        return " or ".join(f"`{choice}`" for choice in setting.choices)
    if setting.secret:
        return "text, a secret"
    kind = {bool: "`true` or `false`", int: "whole number", float: "number", str: "text"}[setting.kind]
    return ", ".join([kind, *_bounds(setting)])


def _bounds(setting: SettingInfo) -> list[str]:
    """Return the bounds of a value in words."""
    texts = {"gt": "more than {}", "ge": "at least {}", "le": "at most {}", "min_length": "not empty"}
    return [texts[name].format(bound) for name, bound in setting.bounds.items()]


def _default(setting: SettingInfo) -> str:
    value: Any = setting.default
    if value is REQUIRED:
        return "none, it must be set"
    if value is None:
        return "not set"
    return "empty" if value in ("", [], {}) else f"`{json.dumps(value)}`"


def _paragraph(text: str) -> list[str]:
    """Return the paragraphs of a text, wrapped, each with an empty line after it."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n")]
    return [line for paragraph in paragraphs for line in (*_wrapped(paragraph), "")]


def _item(text: str) -> list[str]:
    return _wrapped(f"- {text}", indent="  ")


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


if __name__ == "__main__":
    print(settings_reference(), end="")
