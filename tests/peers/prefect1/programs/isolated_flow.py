"""Register a flow that says what it finds around it, at any level of isolation, and print its id.

Run by a real Prefect 0.x or 1.x.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import prefect
from prefect import Flow, Parameter, task


def tried(action):
    """Return what came of an attempt: "done" or the name of the error."""
    try:
        action()
    except OSError as error:
        return os.strerror(error.errno)
    return "done"


def others(runs):
    """Return how many other runs can be seen in the directory of all."""
    try:
        return len({path.name for path in Path(runs).iterdir()} - {prefect.context.flow_run_id})
    except OSError:
        return 0


@task
def look(runs, outside, temporary):
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    found = {
        "processes": sum(path.name.isdigit() for path in Path("/proc").iterdir()),
        "others": others(runs),
        "outside": tried(lambda: Path(outside, "made").write_text("x")),
        "tmp": tried(lambda: Path(temporary).write_text("x")),
        "capabilities": int(status["CapEff"], 16) != 0,
        "uid": os.getuid(),
        "child": subprocess.check_output(["sh", "-c", "echo spoken | cat"], universal_newlines=True).strip(),
    }
    prefect.context.get("logger").info("found %s", json.dumps(found))
    return 7


@task
def show(number):
    prefect.context.get("logger").info("got %d", number)
    return number + 1


with Flow("isolated") as flow:
    number = look(Parameter("runs"), Parameter("outside"), Parameter("temporary"))
    show.map([number, number])

if __name__ == "__main__":
    print("id", flow.register(project_name=sys.argv[1]))
