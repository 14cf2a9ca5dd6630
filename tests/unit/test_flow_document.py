"""The document that `flowherd register` sends, and the mistakes that it finds before it sends anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowherd.client.flow_document import (
    HowToRun,
    command_storage,
    flow_document,
    python_storage,
)
from flowherd.client.flows import falsy_defaults
from flowherd.errors import InvalidRequest, NotFound

SOURCE = """
from elsewhere import imported as renamed
constant = lambda: None
async def waits(): pass
try:
    def in_try(): pass
except ImportError:
    def in_except(): pass
if constant:
    class Callable_: pass
def outer():
    def inner(): pass
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "flows.py").write_text(SOURCE)
    return tmp_path


@pytest.mark.parametrize("name", ["renamed", "constant", "waits", "in_try", "in_except", "Callable_", "outer"])
def test_a_file_reference_becomes_absolute_if_the_file_has_the_function(directory: Path, name: str) -> None:
    found = python_storage(f"flows.py:{name}", directory)
    assert (found["type"], found["ref"]) == ("Python", f"{directory}/flows.py:{name}")


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("def main(a, b=1, *, c): pass", ["a", "b", "c"]),
        ("async def main(): pass", []),
        ("try:\n    import x\nexcept ImportError:\n    def main(a, /, b, *rest): pass", ["b"]),
        ("def other(main): pass\ndef main(a): main = 1", ["a"]),
        ("def main(a, **others): pass", None),
        ("@changed\ndef main(a): pass", None),
        ("def main(a): pass\nmain = changed(main)", None),
        ("if x:\n    def main(a): pass\nelse:\n    def main(b): pass", None),
        ("def main(a): pass\nfrom elsewhere import *", None),
        ("class main:\n    def __init__(self, a): pass", None),
    ],
)
def test_the_parameters_of_a_function_are_named_if_its_signature_is_certain(
    tmp_path: Path, source: str, names: list[str] | None
) -> None:
    (tmp_path / "own.py").write_text(source)
    assert python_storage("own.py:main", tmp_path).get("parameters") == names
    (tmp_path / "own.py").write_text("main = 1")
    assert "parameters" not in python_storage("own.py:main", tmp_path)
    assert "parameters" not in python_storage("own.py", tmp_path)


@pytest.mark.parametrize("name", ["inner", "nothing"])
def test_a_function_that_the_file_does_not_define_is_refused(directory: Path, name: str) -> None:
    with pytest.raises(NotFound, match=name):
        python_storage(f"./flows.py:{name}", directory)


def test_checking_a_file_does_not_run_it(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text("raise SystemExit(1)\ndef main(): pass\n")
    assert python_storage("loud.py:main", tmp_path)["ref"].endswith("loud.py:main")


def test_a_file_that_does_not_exist_or_is_not_python_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def main(:\n")
    for ref in ("missing.py:main", "broken.py:main"):
        with pytest.raises((NotFound, InvalidRequest), match=ref.partition(":")[0]):
            python_storage(ref, tmp_path)


def test_a_file_without_a_function_is_run_as_a_whole(directory: Path) -> None:
    assert python_storage("./flows.py", directory) == {"type": "Python", "ref": f"{directory}/flows.py"}
    for ref in ("missing.py", "broken.py"):
        (directory / "broken.py").write_text("def main(:\n")
        with pytest.raises((NotFound, InvalidRequest), match=ref):
            python_storage(ref, directory)


@pytest.mark.parametrize("ref", ["flows:main", "package.module:main"])
def test_a_module_reference_stays_as_it_is(tmp_path: Path, ref: str) -> None:
    assert python_storage(ref, tmp_path) == {"type": "Python", "ref": ref}


@pytest.mark.parametrize("ref", ["main", "module:", ":main", "mod-ule:main", "module:a.b", "module:ma in", "a..b:c"])
def test_what_is_not_a_reference_is_refused(tmp_path: Path, ref: str) -> None:
    with pytest.raises(InvalidRequest, match="not a reference to Python code"):
        python_storage(ref, tmp_path)


def test_the_document_contains_only_what_was_given(tmp_path: Path) -> None:
    how = HowToRun(labels=["b", "a", "b"], limits={"memory_bytes": 5}, working_dir="/srv", grace_s=2.5)
    document = flow_document("hello", command_storage(["echo", "hi"]), how, {"n": 0}, None)
    assert document["storage"]["type"] == "Command"
    assert document["storage"]["argv"] == ["echo", "hi"]
    config = {key: value for key, value in document["run_config"].items() if key != "__version__"}
    assert config == {
        "type": "LocalRun",
        "env": None,
        "labels": ["a", "b"],
        "working_dir": "/srv",
        "limits": {"memory_bytes": 5},
        "grace_s": 2.5,
    }
    (parameter,) = document["parameters"]
    assert (parameter["name"], parameter["default"], parameter["required"]) == ("n", 0, False)


def test_the_client_sends_the_defaults_that_servers_leave_out() -> None:
    """Servers of the dialect give a run only the defaults that are not 0, false or empty."""
    assert falsy_defaults({"a": 0, "b": False, "c": "", "d": 1, "e": None, "f": []}) == {
        "a": 0,
        "b": False,
        "c": "",
        "f": [],
    }
