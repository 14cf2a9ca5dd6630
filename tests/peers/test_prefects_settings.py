"""The tables of Prefect's settings in docs/reference/way-to-the-server.md, held against the packages' own lists.

Each setting that a row says is honoured is set by Prefect's name, and has to arrive where the row says.
"""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from flowherd.config import load_settings
from flowherd.config.catalogue import SETTINGS, Shape, value_of
from tests.peers.environments import PREFECT_0, PREFECT_1, PREFECT_3, required_installation

_toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "way-to-the-server.md"
_ROW = re.compile(r"^\| `([^`|]+)` \|(?: ([^|`]+) \|)? (.+) \|$", re.MULTILINE)
_SETTING = re.compile(r"^`([a-z0-9_.]+)`")
#: Sections of the packages that concern client, API, TLS, proxy and logging.
_OF_PREFECT_1 = re.compile(r"backend|home_dir|(cloud|logging)\..+|server\.(host|port|endpoint|host_port|host_ip)")
_OF_PREFECT_3 = re.compile(r"(api|client|cloud|logging)\..+|home|profiles_path")
#: The names of Prefect 3's settings with the places where the settings are, printed by its own interpreter.
_NAMES_OF_PREFECT_3 = """
import json
from pydantic import AliasChoices
from prefect.settings.base import PrefectBaseSettings
from prefect.settings.models.root import Settings
def names(model, above=""):
    for name, field in model.model_fields.items():
        kind, alias = field.annotation, field.validation_alias
        if isinstance(kind, type) and issubclass(kind, PrefectBaseSettings):
            yield from names(kind, above + name + ".")
        elif isinstance(alias, AliasChoices):
            yield from ((choice.upper(), above + name) for choice in alias.choices if isinstance(choice, str))
        else:
            yield model.model_config["env_prefix"] + name.upper(), above + name
print(json.dumps(dict(names(Settings))))
"""


def rows(section: str) -> dict[str, tuple[str, str]]:
    """The rows of a table of the page: by name in which packages it is, and what becomes of it."""
    text = PAGE.read_text(encoding="utf-8").partition(f"### {section}")[2].partition("\n### ")[0].partition("\n## ")[0]
    return {match[1]: (match[2] or "", match[3]) for match in _ROW.finditer(text)}


def honoured(section: str) -> dict[str, str]:
    """Our setting for each name of a table that has one."""
    found = {name: _SETTING.match(what) for name, (_, what) in rows(section).items()}
    return {name: match[1] for name, match in found.items() if match}


OLD, NEW, OTHER = "Prefect 0.13.1 and 1.4.1", "Prefect 3.8.5", "Variables of the libraries"


def leaves(data: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, value in data.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{name}.")
        else:
            yield above + name


@pytest.mark.parametrize(("version", "shown"), [(PREFECT_0, "0.13"), (PREFECT_1, "1.4")])
def test_the_table_has_every_setting_of_prefect_0_and_1(version: str, shown: str) -> None:
    (defaults,) = required_installation(version).python.parents[1].glob("lib/*/site-packages/prefect/config.toml")
    theirs = {name for name in leaves(_toml.loads(defaults.read_text())) if _OF_PREFECT_1.fullmatch(name)}
    assert {name for name, (versions, _) in rows(OLD).items() if shown in versions} == theirs


def test_the_table_has_every_setting_of_prefect_3() -> None:
    python = required_installation(PREFECT_3).python
    done = subprocess.run([python, "-c", _NAMES_OF_PREFECT_3], capture_output=True, text=True, timeout=120, check=True)
    theirs = {name for name, place in json.loads(done.stdout).items() if _OF_PREFECT_3.fullmatch(place)}
    assert set(rows(NEW)) == theirs


def test_what_a_row_says_is_one_of_three_things() -> None:
    for section in (OLD, NEW):
        for name, (_, what) in rows(section).items():
            setting = _SETTING.match(what)
            assert what.startswith(("runs", "no: ", "the ")) or (setting and setting[1] in SETTINGS), (name, what)


def sample(dotted: str) -> str:
    """A text that is a value of a setting, and not its default."""
    setting = SETTINGS[dotted]
    if setting.choices:
        return next(choice for choice in setting.choices if choice != setting.default)
    if setting.shape is not Shape.SCALAR:
        return '{"X-Key": "v"}' if setting.shape is Shape.MAPPING else "['a', 'b']"
    if setting.kind is bool:
        return str(not setting.default)
    if dotted.endswith((".api", ".graphql")):
        return "http://sample:7/api"
    return "7"


@pytest.mark.parametrize("name", sorted({**honoured(NEW), **honoured(OTHER)}))
def test_a_variable_of_prefect_3_or_a_library_arrives(name: str) -> None:
    dotted = {**honoured(NEW), **honoured(OTHER)}[name]
    loaded = load_settings(environ={"FLOWHERD_HOME": "/nowhere", name: sample(dotted)})
    assert name in str(loaded.origins[dotted])
    assert value_of(loaded.settings, dotted) != SETTINGS[dotted].default


@pytest.mark.parametrize("name", sorted(honoured(OLD)))
def test_a_setting_of_prefect_0_or_1_arrives_from_variable_and_file(name: str, tmp_path: Path) -> None:
    dotted, text = honoured(OLD)[name], sample(honoured(OLD)[name])
    text = {"server.host": "http://sample", "server.port": "7"}.get(name, text)
    backend = {"PREFECT__BACKEND": "cloud"} if name == "cloud.endpoint" else {}
    variable = "PREFECT__" + name.upper().replace(".", "__")
    loaded = load_settings(environ={"FLOWHERD_HOME": "/nowhere", **backend, variable: text})
    assert variable in str(loaded.origins[dotted])
    assert value_of(loaded.settings, dotted) != SETTINGS[dotted].default
    if "as a variable only" in rows(OLD)[name][1]:
        return
    (tmp_path / ".prefect").mkdir()
    section, _, key = name.rpartition(".")
    lines = [f"[{section}]"] if section else []
    (tmp_path / ".prefect" / "config.toml").write_text("\n".join([*lines, f"{key} = {json.dumps(text)}\n"]))
    loaded = load_settings(environ={"HOME": str(tmp_path), **backend})
    assert "config.toml" in str(loaded.origins[dotted])
    assert value_of(loaded.settings, dotted) != SETTINGS[dotted].default
