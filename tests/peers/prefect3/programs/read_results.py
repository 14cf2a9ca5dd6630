"""Print the results of flow runs as the real client reads them: `python read_results.py RUN…`."""

import json
import sys
from pathlib import Path

from prefect.client.orchestration import get_client

sys.path.insert(0, str(Path.cwd()))
found = {}
with get_client(sync_client=True) as client:
    for run_id in sys.argv[1:]:
        try:
            result = client.read_flow_run(run_id).state.result(raise_on_failure=False)
        except Exception as error:
            result = error
        found[run_id] = repr(result)
print(json.dumps(found))
