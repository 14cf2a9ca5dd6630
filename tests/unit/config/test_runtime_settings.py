"""Runtimes in a file, in a variable and on a command line: the same settings and the same refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowherd.config import LoadedSettings, load_settings
from flowherd.errors import ConfigurationError

OLD = {"name": "old", "interpreter": "/opt/old", "core_version": "0.*", "labels": ["a", "b"], "preload": ["pandas"]}
TEXT = "old=/opt/old;labels=a, b;preload=pandas;core=0.*"
FILE = """
[[runtimes]]
name = "old"
interpreter = "/opt/old"
core_version = "0.*"
labels = ["a", "b"]
preload = ["pandas"]

[[runtimes]]
name = "rest"
interpreter = "/opt/rest/bin/python"
flows = ["x*"]
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path)}


def shown(loaded: LoadedSettings) -> list[dict[str, object]]:
    found: list[dict[str, object]] = loaded.masked("runtimes")
    return found


def test_in_a_file_they_are_sections_in_their_order(environ: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "some.toml"
    path.write_text(FILE)
    rest = {"name": "rest", "interpreter": "/opt/rest/bin/python", "flows": ["x*"]}
    loaded = load_settings(environ=environ, config_file=path)
    assert shown(loaded) == [OLD, rest]
    json.dumps(shown(loaded))


@pytest.mark.parametrize("text", [json.dumps([OLD]), json.dumps([TEXT])])
def test_in_a_variable_they_are_json(environ: dict[str, str], text: str) -> None:
    assert shown(load_settings(environ={**environ, "FLOWHERD__RUNTIMES": text})) == [OLD]


def test_each_option_is_one_runtime(environ: dict[str, str]) -> None:
    loaded = load_settings({"runtimes": [TEXT, "rest=/opt/rest"]}, environ=environ)
    assert shown(loaded) == [OLD, {"name": "rest", "interpreter": "/opt/rest"}]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("/opt/old", "NAME=PYTHON"),
        ("old=", "NAME=PYTHON"),
        ("old=/x;lables=a", "'lables'"),
        ("old=/x;labels", "labels=A,B"),
    ],
)
def test_a_malformed_option_is_named_with_the_right_form(environ: dict[str, str], text: str, word: str) -> None:
    with pytest.raises(ConfigurationError, match="--runtime") as caught:
        load_settings({"runtimes": [text]}, environ=environ, argument_names={"runtimes": "--runtime"})
    assert word in str(caught.value)


@pytest.mark.parametrize(
    "section",
    ['name = "x"', 'name = "x"\ninterpreter = ""', 'name = "x"\ninterpreter = "/x"\nflow = "x"', 'interpreter = "/x"'],
)
def test_a_section_that_lacks_something_or_has_an_unknown_key_is_refused(
    environ: dict[str, str], tmp_path: Path, section: str
) -> None:
    path = tmp_path / "some.toml"
    path.write_text("[[runtimes]]\n" + section)
    with pytest.raises(ConfigurationError, match="runtimes"):
        load_settings(environ=environ, config_file=path)


def test_one_section_in_single_brackets_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "some.toml"
    path.write_text('[runtimes]\nname = "x"\ninterpreter = "/x"')
    with pytest.raises(ConfigurationError, match="list"):
        load_settings(environ=environ, config_file=path)
