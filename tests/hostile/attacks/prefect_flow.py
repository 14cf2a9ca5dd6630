"""The attacks as a flow of Prefect 1.x. As a program it prints its document.

python prefect_flow.py LABEL WORKING_DIR USER    USER "" is the agent's
"""

import json
import os
import sys

from prefect import Flow, Parameter, task
from prefect.run_configs import LocalRun
from prefect.storage import Local


@task
def attack(place: str) -> None:
    """Attack what is named by files in the directory `place`."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import flow

    flow.main(place)


#: Its directory, which it does not use, exists: in that of the user it would have to be made.
STORAGE = Local(directory="/tmp", path=os.path.abspath(__file__), stored_as_script=True)

with Flow("attacker of Prefect", storage=STORAGE) as flow:
    attack(Parameter("place"))

if __name__ == "__main__":
    flow.storage.add_default_labels = False
    flow.storage.add_flow(flow)
    flow.run_config = LocalRun(labels=[sys.argv[1]], working_dir=sys.argv[2])
    document = flow.serialize(build=False)
    if sys.argv[3]:
        document["run_config"]["user"] = sys.argv[3]
    print(json.dumps(document))
