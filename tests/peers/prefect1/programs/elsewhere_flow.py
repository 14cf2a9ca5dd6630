"""Register a flow that says where it runs, and print its id: `python elsewhere_flow.py PROJECT`."""

import os
import sys

import prefect
from prefect import Flow, task
from prefect.environments.storage import Local


@task
def say_where():
    prefect.context.get("logger").info("run %s in %s", prefect.context.get("flow_run_id"), os.environ["WHERE"])


with Flow("elsewhere") as flow:
    say_where()

flow.storage = Local(directory=os.path.join(os.environ["PEERS_SCRATCH"], "flows"))
print("flow", flow.register(project_name=sys.argv[1], no_url=True))
