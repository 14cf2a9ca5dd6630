"""Arguments and environment of a command."""

from __future__ import annotations

from flowherd_runner.kinds.command import command_environment, substitute


def test_a_placeholder_is_replaced_by_the_value_of_its_parameter() -> None:
    parameters = {"name": "a b", "n": 3, "on": True, "none": None, "list": [1, "x"]}
    assert substitute("--{name}={n}", parameters) == "--a b=3"
    assert substitute("{on} {none} {list}", parameters) == 'true null [1, "x"]'


def test_everything_else_in_braces_stays() -> None:
    for text in ("{unknown}", "{}", "${HOME}", "{{name}", "awk '{print $1}'", "{n:>3}", "{name"):
        expected = "{a b" if text == "{{name}" else text
        assert substitute(text, {"name": "a b", "n": 3}) == expected


def test_a_value_is_not_searched_for_placeholders_again() -> None:
    assert substitute("{a}{b}", {"a": "{b}", "b": "{a}"}) == "{b}{a}"


def test_import_paths_come_before_pythonpath() -> None:
    assert command_environment({"PYTHONPATH": "/x"}, ["/a", "/b"])["PYTHONPATH"] == "/a:/b:/x"
    assert command_environment({}, ["/a"])["PYTHONPATH"] == "/a"
    assert "PYTHONPATH" not in command_environment({}, [])


def test_python_programs_are_unbuffered_unless_the_run_sets_the_variable() -> None:
    assert command_environment({}, [])["PYTHONUNBUFFERED"] == "1"
    assert command_environment({"PYTHONUNBUFFERED": ""}, [])["PYTHONUNBUFFERED"] == ""
