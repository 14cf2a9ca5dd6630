"""Calls of the real client, each with what must come back. Run by Prefect's interpreter: `python client_calls FILE`.

FILE gets null by the name of each call that is answered as it should be, and the text of what went wrong by the others:
calls are the functions whose names begin with "call_", or with "cloud_" for the backend "cloud".
"""

from __future__ import annotations

import json
import sys
import time
import traceback

import cloud_calls
import flow_calls
import prefect
import run_calls
from client_helpers import PREFECT_1

#: What 0.x does not have.
_PREFECT_1_ONLY = {"call_views", "call_artifacts", "call_idempotent_registration", "cloud_key_value"}


def main():
    is_cloud = prefect.config.backend == "cloud"
    modules = [cloud_calls] if is_cloud else [flow_calls, run_calls]
    prefix = "cloud_" if is_cloud else "call_"
    results = {}
    for name, call in [item for module in modules for item in vars(module).items()]:
        if name.startswith(prefix) and (PREFECT_1 or name not in _PREFECT_1_ONLY):
            began = time.monotonic()
            try:
                call()
                results[name] = None
            except Exception:
                results[name] = traceback.format_exc()
            print("{:6.2f} s {}".format(time.monotonic() - began, name))
    with open(sys.argv[1], "w") as file:
        json.dump(results, file)


if __name__ == "__main__":
    main()
