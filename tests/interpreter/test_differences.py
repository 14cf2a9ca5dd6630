"""What a run cannot have like a fresh interpreter, and what it has instead (docs/reference/interpreter.md)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runner import ForkServer, fork_servers


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ForkServer]:
    yield from fork_servers(sys.executable, tmp_path / "runs", spares=1)


def lines(server: ForkServer, code: str) -> list[str]:
    run = server.python(code)
    run.wait()
    return run.lines()


def test_an_uncaught_exception_is_a_record_also_with_an_excepthook(server: ForkServer) -> None:
    run = server.python(
        "import sys\ndef main():\n    sys.excepthook = lambda *_: print('hook')\n    raise KeyError('k')"
    )
    assert run.wait()["exception"] == {"type": "KeyError", "message": "'k'"}
    assert run.lines("log")[0].endswith("\nKeyError: 'k'")
    assert run.lines("stdout") == ["hook"]
    assert run.lines("stderr") == []


def test_strings_have_the_hashes_of_the_fork_server_and_random_numbers_are_the_runs_own(server: ForkServer) -> None:
    code = "import random, uuid, secrets\ndef main():\n    print(hash('x'))\n    print(random.random(), uuid.uuid4())"
    (first_hash, *first), (second_hash, *second) = lines(server, code), lines(server, code)
    assert first_hash == second_hash
    assert not set(first) & set(second)


def test_modules_of_the_fork_server_are_loaded_already(server: ForkServer) -> None:
    assert lines(server, "import sys\ndef main(): print('json' in sys.modules)") == ["True"]


def test_output_is_written_line_by_line(server: ForkServer) -> None:
    assert lines(server, "import sys\ndef main(): print(sys.stdout.line_buffering)") == ["True"]


def test_a_value_of_sys_is_finalised_while_output_still_works(server: ForkServer) -> None:
    code = "import sys\nclass Owner:\n    def __del__(self): print('del')\ndef main(): sys.owner = Owner()"
    assert lines(server, code) == ["del"]


def test_an_ignored_exception_of_c_code_shows_one_frame_of_flowherd(server: ForkServer) -> None:
    code = "import atexit, sys\ndef main(): atexit.register(sys.exit, 4)"
    found = lines(server, code)
    assert found[-1] == "SystemExit: 4"
    assert [line for line in found if "interpreter_end.py" in line]


def test_the_fork_server_and_this_module_are_below_the_function_on_the_stack(server: ForkServer) -> None:
    code = "import traceback\ndef main(): print(2 < len(traceback.extract_stack()) < 40)"
    assert lines(server, code) == ["True"]


def test_objects_that_the_run_puts_into_loaded_modules_are_finalised_last(server: ForkServer) -> None:
    code = """
import json
class Owner:
    def __init__(self, name): self.name = name
    def __del__(self): print("del", self.name)
json.owner = Owner("in json")
def main(): print("main")
"""
    assert lines(server, code) == ["main", "del in json"]
