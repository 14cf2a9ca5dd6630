"""The end of a run in the fork: what belongs to the fork server stays out of it, and what hangs is named."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interpreter.compare import python_parameters
from tests.support.runner import ForkServer, fork_servers

_HOLDER = """
import atexit, multiprocessing.util, os, tempfile, threading, weakref
class Owner:
    def __del__(self): print("del of the preload")
OWNER = Owner()
CYCLE = Owner(); CYCLE.self = CYCLE
atexit.register(print, "exit handler of the preload")
atexit.register(Owner().__class__)
weakref.finalize(OWNER, print, "finalizer of the preload")
multiprocessing.util.Finalize(OWNER, print, ("multiprocessing finalizer of the preload",), exitpriority=1)
if hasattr(threading, "_register_atexit"):
    threading._register_atexit(print, "thread handler of the preload")
SCRATCH = tempfile.TemporaryDirectory()
HANDLE = None
"""
_USES_HOLDER = """
import atexit, holder, os, weakref
def main():
    print(os.path.isdir(holder.SCRATCH.name))
    atexit.register(print, "exit handler of the run")
    weakref.finalize(holder.OWNER, print, "finalizer of the run")
    holder.HANDLE = open("kept.txt", "w"); holder.HANDLE.write("data")
"""
_HANGS = """
import atexit, threading, time
class Slow:
    def __del__(self): time.sleep(100)
def finalizer():
    global SLOW
    SLOW = Slow()
    print("returned", flush=True)
def wait(): time.sleep(100)
def handler():
    atexit.register(wait)
    print("returned", flush=True)
def thread():
    threading.Thread(target=wait).start()
    print("returned", flush=True)
def in_c():
    atexit.register(time.sleep, 100)
    print("returned", flush=True)
def body():
    print("returned", flush=True); time.sleep(100)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ForkServer]:
    yield from fork_servers(sys.executable, tmp_path / "runs", spares=1)


@pytest.mark.parametrize("python", python_parameters())
def test_nothing_of_a_preloaded_module_is_finalised_in_a_run(
    python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "holder.py").write_text(_HOLDER)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    server = ForkServer(python, tmp_path / "runs", ["holder"], {"PYTHONPATH": str(tmp_path)})
    try:
        assert server.ready["failed"] == {}
        for number in range(2):
            place = tmp_path / str(number)
            place.mkdir()
            run = server.python(_USES_HOLDER, working_dir=str(place))
            assert run.wait()["exit_code"] == 0, run.describe()
            assert run.lines() == ["True", "finalizer of the run", "exit handler of the run"]
            assert (place / "kept.txt").read_text() == "data"
    finally:
        server.close()


def test_what_hangs_after_the_function_has_returned_is_ended_and_named(server: ForkServer) -> None:
    places = {
        "finalizer": "in __del__ (",
        "handler": "in wait (",
        "thread": "in wait (",
        "in_c": "in an exit handler or a finalizer that is not written in Python",
    }
    # At once, so that each can have more time to get there than all had one after the other.
    runs = {name: server.python(_HANGS, name, limits={"run_time_s": 2.5}) for name in places}
    for name, place in places.items():
        record = runs[name].wait()
        assert (record["reason"], record["grade"]) == ("timeout", "proven")
        assert f"the function had returned, and its interpreter was still ending: {place}" in record["evidence"]
        assert runs[name].lines() == ["returned"]


def test_a_stop_request_ends_a_finalizer_too(server: ForkServer) -> None:
    run = server.python(_HANGS, "finalizer")
    run.wait_for_line("returned")
    run.stop()
    record = run.wait()
    assert record["reason"] == "cancelled"
    assert "in __del__ (" in record["evidence"]


def test_a_function_that_hangs_itself_is_no_finalizer(server: ForkServer) -> None:
    record = server.python(_HANGS, "body", limits={"run_time_s": 0.5}).wait()
    assert record["reason"] == "timeout"
    assert "returned" not in record["evidence"]


@pytest.mark.parametrize("function", ["numbers", "waits", "async_numbers"])
def test_generators_and_coroutines_run_to_their_end(server: ForkServer, function: str) -> None:
    code = """
import asyncio
def numbers():
    print("one"); yield 1
    print("two"); yield 2
async def waits():
    print("one"); await asyncio.sleep(0); print("two")
async def async_numbers():
    print("one"); yield 1
    await asyncio.sleep(0); print("two"); yield 2
"""
    run = server.python(code, function)
    assert run.wait()["exit_code"] == 0
    assert run.lines() == ["one", "two"]


def test_a_forked_child_decides_nothing_even_if_it_uses_the_channel(server: ForkServer) -> None:
    code = """
import json, logging, os, socket
def main():
    channel = next(n for n in range(3, 50) if is_socket(n))
    if os.fork() == 0:
        for message in ({"exception": {"type": "E", "message": "m"}}, {"not_started": "by a child"}):
            os.write(channel, json.dumps(message).encode())
        logging.getLogger("child").warning("a record of the child")
        raise RuntimeError("only the child failed")
    os.wait()
def is_socket(n):
    try:
        return bool(socket.socket(fileno=os.dup(n)).getsockname() or True)
    except OSError:
        return False
"""
    run = server.python(code)
    record = run.wait()
    assert (record["reason"], record["exit_code"], record["exception"]) == ("exited", 0, None)
    assert run.lines("log") == ["a record of the child"]
    assert run.lines("stderr")[-1] == "RuntimeError: only the child failed"


def test_records_have_levels_until_the_run_configures_logging(server: ForkServer) -> None:
    code = """
import logging
def main():
    logging.getLogger("a").info("info"); logging.warning("by a function of the module"); logging.debug("hidden")
    print(logging.getLogger().level, len(logging.getLogger().handlers))
    logging.getLogger("b").setLevel(logging.ERROR); logging.getLogger("b").warning("hidden")
    logging.basicConfig(force=True, format="own %(message)s", level="DEBUG")
    logging.debug("debug"); logging.getLogger("a").info("info")
"""
    run = server.python(code)
    run.wait()
    levels = [record.level for record in run.records() if record.level != 20]
    assert run.lines("log") == ["info", "by a function of the module"]
    assert levels == [30]
    assert run.lines("stdout") == ["30 1"]
    assert run.lines("stderr") == ["own debug", "own info"]


def test_an_own_level_of_the_flow_is_the_root_loggers(server: ForkServer) -> None:
    code = """
import logging
def main():
    print(logging.getLogger().level)
    logging.getLogger("a").debug("debug")
    logging.basicConfig(format="%(message)s", filename="own.log")
    logging.debug("to the file")
    print(open("own.log").read())
"""
    run = server.python(code, log_level=10)
    run.wait()
    assert run.lines() == ["10", "debug", "to the file", ""]
