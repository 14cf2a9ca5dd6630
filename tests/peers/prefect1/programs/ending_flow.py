"""Register one flow, whose task does what its parameters say, and print its id. Run by a real Prefect 0.x or 1.x."""

import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

import prefect
from prefect import Flow, Parameter, task
from prefect.engine import signals


@task(max_retries=1, retry_delay=timedelta(minutes=11))
def act(what, directory):
    """Leave a mark in the directory and do `what`; succeed the second time."""
    logger = prefect.context.get("logger")
    mark = Path(directory) / "begun"
    again = mark.exists()
    with mark.open("a") as file:
        file.write("x")
    logger.info("begun in %s", Path.cwd())
    if again or what == "succeed":
        return
    if what == "wait for a retry":
        raise ValueError("the first try")
    if what == "pause":
        raise signals.PAUSE("waiting for a person")
    if what == "be killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "exit at once":
        os._exit(0)
    if what == "go on":
        time.sleep(120)


@task
def follow():
    print("follows")


with Flow("ending") as flow:
    follow(upstream_tasks=[act(Parameter("what"), Parameter("directory"))])

if __name__ == "__main__":
    print("id", flow.register(project_name=sys.argv[1]))
