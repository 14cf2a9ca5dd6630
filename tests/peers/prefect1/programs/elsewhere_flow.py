"""Register a flow that says where it runs, and print its id: `python elsewhere_flow.py PROJECT`."""

import os
import sys

import prefect
from prefect import Flow, task
from prefect.environments.storage import Local


@task
def say_where():
    run_id, where, unwanted = prefect.context.get("flow_run_id"), os.environ["WHERE"], "NOT_FOR_RUNS" in os.environ
    prefect.context.get("logger").info("run %s in %s, NOT_FOR_RUNS %s", run_id, where, unwanted)


with Flow("elsewhere") as flow:
    say_where()

flow.storage = Local(directory=os.path.join(os.environ["PEERS_SCRATCH"], "flows"))
print("flow", flow.register(project_name=sys.argv[1], no_url=True))
