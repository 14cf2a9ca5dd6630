"""Flows that look at their surroundings, and change them."""

import asyncio
import atexit
import concurrent.futures
import dataclasses
import enum
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from datetime import date, datetime
from pathlib import Path

import helper
import pydantic
from prefect import flow, get_client, get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.blocks.system import Secret
from prefect.context import FlowRunContext, get_run_context
from prefect.events import emit_event
from prefect.logging import get_logger
from prefect.runtime import deployment, flow_run
from prefect.settings import get_current_settings
from prefect.variables import Variable

_seen = []


@flow(log_prints=True)
def looking(names: list[str] | None = None) -> None:
    _seen.append(1)
    print("helper", helper.VALUE, "seen", len(_seen), "name", __name__)
    print("file", Path(__file__).name, Path(__file__).parent == Path.cwd())
    print("environ", json.dumps({name: os.environ.get(name) for name in names or ()}))
    print("cwd is first", sys.path[0] in ("", str(Path.cwd())), "argv", [Path(word).name for word in sys.argv])
    print("loop", _loop_is_running(), "main thread", threading.current_thread() is threading.main_thread())
    print("umask", oct(_umask()), "tty", sys.stdout.isatty())
    print("signals", signal.getsignal(signal.SIGINT) is not None, signal.getsignal(signal.SIGPIPE))
    print("encoding", sys.stdout.encoding, sys.getfilesystemencoding(), "optimized", sys.flags.optimize)


def _umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


def _loop_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@flow(log_prints=True)
def in_context() -> None:
    context = get_run_context()
    assert isinstance(context, FlowRunContext) and context.flow_run
    print("context", context.flow.name, context.parameters, context.flow_run.name)
    print("runtime", flow_run.name, flow_run.flow_name, deployment.name, deployment.version, sorted(flow_run.tags))
    print("job variables", (context.flow_run.job_variables or {}).get("env"))
    settings = get_current_settings()
    print("settings", settings.logging.level, settings.flows.default_retries, settings.results.persist_by_default)


@flow
def logging_variously() -> None:
    logger = get_run_logger()
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(logger, level)("at %s", level)
    logger.info("ünïcode ☃ 漢字 \N{PILE OF POO}")
    logger.info("two\nlines")
    logger.info("[red]markup[/red] {braces} %percent")
    logging.getLogger("mine").info("of mine")
    logging.getLogger("mine.below").warning("of mine below")
    logging.getLogger("another").error("of another")
    get_logger("special").info("of prefect's own logger")
    try:
        raise ValueError("logged")
    except ValueError:
        logger.exception("with a traceback")
    logger.log(15, "at a level of its own")
    logger.info("extra", extra={"of": "mine"})


@flow(log_prints=True)
def printing() -> None:
    print("printed", 1, 2, sep="-", end="!\n")
    print("without an end", end="")
    print()
    print("to stderr", file=sys.stderr)
    sys.stderr.write("written to stderr\n")
    sys.stdout.write("written to stdout\n")
    subprocess.run([sys.executable, "-c", "print('of a program')"], check=True)
    os.write(1, b"of the descriptor\n")
    warnings.warn("a warning", stacklevel=1)
    logging.warning("of the root logger")


@flow(log_prints=True)
def printing_much() -> None:
    for number in range(1500):
        print(f"line {number:05d}", "x" * 60)
    print("long", "y" * 50_000)


@flow(log_prints=True)
def with_blocks(variable: str) -> None:
    secret = Secret.load("compared").get()
    print("secret", len(secret))
    Variable.set(variable, {"kept": [1, 2]}, overwrite=True)
    print("variable", Variable.get(variable), Variable.get("absent", default="none"))
    create_markdown_artifact("# text", key="compared-text", description="of the flow")
    create_table_artifact([{"a": 1}], key="compared-table")
    create_link_artifact("http://example.invalid", link_text="there")
    emit_event("compared.done", resource={"prefect.resource.id": "compared"})


@flow(log_prints=True)
async def with_a_client() -> None:
    async with get_client() as client:
        mine = await client.read_flow_run(flow_run.id)
        print("my state", mine.state.name, "name", mine.name)


@dataclasses.dataclass
class Thing:
    name: str
    number: int = 1


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Model(pydantic.BaseModel):
    name: str
    number: int = 1
    day: date | None = None


@task(persist_result=True)
def make_thing(name: str) -> Thing:
    return Thing(name)


@flow(persist_result=True)
def keeping_things() -> list:
    return [make_thing("one"), Colour.RED.value, Path("a/b"), {1, 2}, lambda: 3]


@flow(log_prints=True)
def checked(number: int, model: Model, when: datetime, colour: Colour = Colour.RED, rest: str = "default") -> None:
    print(repr(number), repr(model), when.isoformat(), colour, rest)


@flow(validate_parameters=False, log_prints=True)
def unchecked(number: int = 1) -> None:
    print(repr(number))


@flow(flow_run_name="named for {word}", log_prints=True)
def renamed(word: str = "x") -> None:
    print("I am", flow_run.name)


def _square(number: int) -> int:
    return number * number


@flow(log_prints=True)
def in_many_processes() -> None:
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            print(method, pool.map(_square, [2, 3]))
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        print("executor", executor.submit(_square, 4).result())


@flow(log_prints=True)
def with_threads() -> None:
    said = []
    thread = threading.Thread(target=lambda: said.append("in a thread"))
    thread.start()
    thread.join()
    print(said)
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    atexit.register(lambda: os.write(1, b"at exit\n"))


@flow(log_prints=True)
def with_a_handler() -> None:
    caught = []
    signal.signal(signal.SIGUSR1, lambda *_: caught.append(1))
    os.kill(os.getpid(), signal.SIGUSR1)
    print("caught", caught)


@flow(log_prints=True)
def reading() -> None:
    try:
        input()
    except EOFError:
        print("nothing to read")


@flow(log_prints=True)
def with_a_loop_of_its_own() -> None:
    async def inside() -> str:
        await asyncio.sleep(0)
        return "of my loop"

    print(asyncio.run(inside()))


@flow(log_prints=True)
def changing_its_surroundings() -> None:
    os.chdir("/")
    os.environ["CHANGED"] = "1"
    sys.stdout.flush()
    print("in", str(Path.cwd()))


if __name__ == "__main__":
    raise SystemExit("imported as the main module")
