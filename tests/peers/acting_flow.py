"""Run by a real Prefect: registers one flow whose task does what its parameters say, and prints the flow's id."""

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
def act(what, place):
    """Do `what`, having left a mark in the directory `place`; a second time all is well."""
    logger = prefect.context.get("logger")
    mark = Path(place) / "begun"
    again = mark.exists()
    with mark.open("a") as file:
        file.write("x")
    logger.info("begun in %s", Path.cwd())
    if again or what == "end well":
        return
    if what == "wait for a retry":
        raise ValueError("the first try")
    if what == "pause":
        raise signals.PAUSE("a person is asked")
    if what == "be killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "leave without a word":
        os._exit(0)
    if what == "go on":
        time.sleep(120)


@task
def follow():
    print("follows")


with Flow("acting") as flow:
    follow(upstream_tasks=[act(Parameter("what"), Parameter("place"))])

if __name__ == "__main__":
    print("id", flow.register(project_name=sys.argv[1]))
