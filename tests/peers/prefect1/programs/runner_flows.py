"""Flows for the tests of the runner's kind "prefect", for Prefect 0.x and 1.x; running this file registers them.

python runner_flows.py PROJECT DIRECTORY     print one JSON object: the flows' ids by their names
"""

import json
import logging
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import time

import prefect
from prefect import Flow, Parameter, task

PREFECT_0 = prefect.__version__.startswith("0.")
if PREFECT_0:
    from prefect.engine.executors import LocalDaskExecutor
    from prefect.environments import LocalEnvironment
    from prefect.environments.storage import Local
else:
    from prefect.executors import LocalDaskExecutor
    from prefect.storage import Local, Module


def logger():
    return prefect.context.get("logger")


def log_change(obj, old, new):
    obj.logger.info("%s is %s", type(obj).__name__, type(new).__name__)
    return new


def refusing(flow, old, new):
    if new.is_finished():
        prefect.client.Client.set_flow_run_state = refuse_state
    return new


def refuse_state(*args, **kwargs):
    raise ConnectionError("no room at the API")


@task(name="speak")
def speak(word):
    logger().info("says %s", word)
    logger().debug("not at this level")
    print(f"prints {word}")
    try:
        {}["missing"]
    except KeyError:
        logger().exception("failed")
    logging.getLogger("mine.inner").warning("of mine")
    logging.getLogger("other").warning("of nobody")
    logger().warning("with a stack", stack_info=True)
    return word


@task(name="echo", log_stdout=True)
def echo(word):
    print(f"echoes {word}")


@task(name="look")
def look(names):
    client = prefect.Client()
    found = {name: os.environ.get(name) for name in names}
    token = getattr(client, "api_key", None) or getattr(client, "_api_token", None)
    print(
        "SEEN "
        + json.dumps(
            {
                "environ": found,
                "token": token,
                "copied": prefect.context.config.cloud.get("auth_token"),
                "loaded": prefect.config.cloud.get("auth_token"),
                "context": {name: prefect.context.get(name) for name in ("colour", "leak", "flow_run_id")},
                "secrets": dict(prefect.context.get("secrets", {})),
                "parameters": prefect.context.get("parameters"),
                "level": logging.getLogger("prefect").level,
                "file": prefect.config.get("fromfile"),
                "home": prefect.config.home_dir,
                "loggers": sorted(name for name in ("mine", "theirs") if logging.getLogger(name).handlers),
            }
        )
    )


@task(name="keep")
def keep():
    kept, filed = prefect.client.Secret("KEPT").get(), prefect.context.secrets["FILED"]
    print("kept", kept, "and", filed)
    logger().info("with fields", extra={"order": 7, "of": {"value": [kept]}, "other": {filed: float("nan")}})


@task(name="work", state_handlers=[log_change])
def work(number):
    try:
        logger().info("working on %s", number)
        for _ in range(1200):
            time.sleep(0.05)
    finally:
        print(f"cleaned up {number}", flush=True)


@task(name="after")
def after(done):
    logger().info("after")


@task(name="kill_child")
def kill_child():
    child = subprocess.Popen(["sleep", "60"])
    child.kill()
    print(f"child ended with {child.wait()}")
    raise RuntimeError("the child is gone")


@task(name="fork")
def fork():
    pid = os.fork()
    if pid == 0:
        logger().info("in the fork")
        os._exit(0)
    os.waitpid(pid, 0)
    logger().info("behind the fork")


@task(name="kill_self")
def kill_self():
    logger().info("last words")
    os.kill(os.getpid(), signal.SIGKILL)


@task(name="pid")
def pid(number):
    logger().info("task %s in another process: %s", number, os.getpid() != os.getpgid(0))
    print(f"printed by {number}")
    return number


@task(name="wait")
def wait(seconds):
    time.sleep(seconds)
    listing = subprocess.run(["ps", "-s", str(os.getsid(0)), "-o", "args"], stdout=subprocess.PIPE).stdout.decode()
    found = [line for line in listing.splitlines() if "heartbeat flow-run" in line or "heartbeat task-run" in line]
    print(f"heartbeat processes: {found}")


def on(flow, scheduler):
    executor = LocalDaskExecutor(scheduler=scheduler, num_workers=2)
    if PREFECT_0:
        flow.environment = LocalEnvironment(executor=executor)
    else:
        flow.executor = executor
    return flow


with Flow("speaking") as speaking:
    echo(speak(Parameter("word", default="hello")))

with Flow("keeping") as keeping:
    keep()

with Flow("looking") as looking:
    look(Parameter("names", default=[]))


def working(name):
    with Flow(name, state_handlers=[log_change]) as flow:
        after(work(1))
        work(2)
    return flow


with Flow("killing a child") as killing_a_child:
    kill_child()

with Flow("forking") as forking:
    fork()

with Flow("killing itself") as killing_itself:
    kill_self()

with Flow("in processes") as in_processes:
    pid.map([1, 2, 3])

with Flow("waiting") as waiting:
    wait(Parameter("seconds", default=0))

with Flow("lost") as lost:
    echo("never")

with Flow("refusing", state_handlers=[refusing]) as refused:
    echo("said")

FLOWS = [
    speaking,
    refused,
    keeping,
    looking,
    working("working"),
    on(working("working in threads"), "threads"),
    on(working("working in processes"), "processes"),
    killing_a_child,
    forking,
    killing_itself,
    on(in_processes, "processes"),
    waiting,
    lost,
]

SCRIPT = """
import prefect
from prefect import Flow, task

@task(name="from_script")
def from_script():
    prefect.context.get("logger").info("read from a script")

with Flow("scripted") as flow:
    from_script()
"""


def scripted(directory):
    path = directory / "scripted_flow.py"
    path.write_text(SCRIPT)
    flow = runpy.run_path(str(path))["flow"]
    flow.storage = Local(path=str(path), stored_as_script=True)
    return flow


def from_module(directory):
    source = SCRIPT.replace("scripted", "in a module").replace("read from a script", "imported as a module")
    (directory / "moduled_flow.py").write_text(source)
    flow = runpy.run_path(str(directory / "moduled_flow.py"))["flow"]
    flow.storage = Module("moduled_flow")
    return flow


def main():
    project, directory = sys.argv[1:]
    client = prefect.Client()
    client.create_project(project)
    directory = pathlib.Path(directory)
    flows = [*FLOWS, scripted(directory), *([] if PREFECT_0 else [from_module(directory)])]
    ids = {flow.name: flow.register(project, no_url=True) for flow in flows}
    print("IDS " + json.dumps(ids))


if __name__ == "__main__":
    main()
