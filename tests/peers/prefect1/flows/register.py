"""Make all flows and register them with the real client: `python register.py PROJECT FILE`.

The flows' ids are written to FILE by name, as JSON. PEERS_SCRATCH names the directory for everything that is stored.
The functions of the flows' modules are stored with the flows, as those of a user's script are.
"""

from __future__ import annotations

import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import cloudpickle
from flows import ends, executors, process_ends, surroundings, values, versions
from flows.versions import Local

MODULES = (values, ends, process_ends, surroundings, executors)


def register(make, project):
    flow = make()
    if flow.storage is None:
        flow.storage = Local(directory=os.path.join(os.environ["PEERS_SCRATCH"], "flows"))
    flow_id = flow.register(project_name=project, no_url=True)
    return flow, flow_id


def main():
    project, file = sys.argv[1:]
    for module in (*MODULES, versions):
        cloudpickle.register_pickle_by_value(module)
    registered = {}
    for module in MODULES:
        for make in module.FLOWS:
            flow, flow_id = register(make, project)
            registered[flow.name] = flow_id
            if flow.name == "not-there":
                os.unlink(flow.storage.flows[flow.name])
    with open(file, "w") as out:
        json.dump(registered, out)


if __name__ == "__main__":
    main()
