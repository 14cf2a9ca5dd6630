"""An agent for another platform: a subclass of `Agent` with the one method that it needs.

This one writes every flow run into a queue directory, from which another program takes it:

    FLOWHERD__CLOUD__API=http://127.0.0.1:4200 python platform_agent.py /var/spool/jobs
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from flowherd import Agent, FlowRun


class SpoolAgent(Agent):
    """Writes one file for each flow run."""

    spool = Path()

    def deploy_flow(self, flow_run: FlowRun) -> str:
        """Write the run's description into the spool. Raises ValueError for a storage that it cannot run."""
        if flow_run.flow.storage.get("type") != "Command":
            raise ValueError(f"this platform runs commands only, not {flow_run.flow.storage.get('type')}")
        path = self.spool / f"{flow_run.id}.json"
        path.write_text(json.dumps({"argv": flow_run.flow.storage["argv"], "parameters": dict(flow_run.parameters)}))
        return f"spooled as {path}"


if __name__ == "__main__":
    SpoolAgent.spool = Path(sys.argv[1])
    SpoolAgent().start()
