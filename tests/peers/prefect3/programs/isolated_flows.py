"""Flows at any level of isolation (prefect3/test_isolation.py): one says what it finds around it, one waits."""

import json
import os
import subprocess
import time
from pathlib import Path

from prefect import flow, task
from prefect.runtime import flow_run


def tried(action) -> str:  # type: ignore[no-untyped-def]
    """Return what came of an attempt: "done" or the name of the error."""
    try:
        action()
    except OSError as error:
        return os.strerror(error.errno or 0)
    return "done"


def others(runs: str) -> int:
    """Return how many other runs can be seen in the directory of all."""
    try:
        return len({path.name for path in Path(runs).iterdir()} - {flow_run.id})
    except OSError:
        return 0


@task
def of_a_child(word: str) -> str:
    return subprocess.run(["sh", "-c", f"echo {word} | cat"], capture_output=True, text=True, check=True).stdout.strip()


@task(persist_result=True)
def kept(number: int) -> int:
    return number + 1


@flow
def inner(number: int) -> int:
    return kept(number)


@flow(log_prints=True, persist_result=True)
def looking(runs: str, outside: str, temporary: str) -> dict:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    found = {
        "processes": sum(path.name.isdigit() for path in Path("/proc").iterdir()),
        "others": others(runs),
        "outside": tried(lambda: Path(outside, "made").write_text("x")),
        "tmp": tried(lambda: Path(temporary).write_text("x")),
        "capabilities": int(status["CapEff"], 16) != 0,
        "uid": os.getuid(),
        "no_new_privs": status["NoNewPrivs"].strip() == "1",
        "child": of_a_child("spoken"),
        "futures": sorted(future.result() for future in kept.map([1, 2, 3])),
        "inner": inner(5),
    }
    print("found", json.dumps(found))
    return {"inner": found["inner"]}


@flow
def patient(file: str) -> None:
    print("waiting", flush=True)
    while not Path(file).exists():
        time.sleep(0.05)
    print("it is there", flush=True)
