"""What the server holds of a run, as far as the agent has read it already: each question less is a shorter start.

They are in spec.json, so a run can begin without asking. Where they are missing, or another Prefect cannot read them,
the server is asked.
"""

import importlib
from typing import Any, Dict, Mapping, Optional

from flowherd_runner.kinds.prefect3 import prefect_compat


class Documents:
    """The answers for one run, by the names of spec.json's target."""

    def __init__(self, target: Mapping[str, Any]) -> None:
        self._target = target
        self._client: Any = None

    def flow_run(self, flow_run_id: Any) -> Any:
        """The claimed flow run."""
        found = _validated("FlowRun", "prefect.client.schemas.objects", self._target.get("flow_run"))
        if found is None:
            return self._server().read_flow_run(flow_run_id)
        # It was read just before the claim.
        found.state = importlib.import_module("prefect.states").Pending()
        found.state_type, found.state_name = found.state.type, found.state.name
        found.next_scheduled_start_time = None
        return found

    def deployment(self, deployment_id: Any) -> Any:
        """The deployment of the run."""
        found = _validated("DeploymentResponse", "prefect.client.schemas.responses", self._target.get("deployment"))
        return self._server().read_deployment(deployment_id) if found is None else found

    def _server(self) -> Any:
        """A client, made for the first question: most runs have none."""
        if self._client is None:
            self._client = prefect_compat.sync_client()
        return self._client


def _validated(name: str, module: str, document: Optional[Dict[str, Any]]) -> Any:
    if not document:
        return None
    model: Any = getattr(importlib.import_module(module), name)
    try:
        return model.model_validate(document)
    except ValueError:
        return None
