"""What the server holds of a run, as far as the agent has read it already: each question less is a shorter start.

They are in spec.json, so a run can begin without asking. Where they are missing, or another Prefect cannot read them,
the server is asked.
"""

import importlib
from typing import Any, Dict, Mapping, Optional


class Documents:
    """The answers for one run, by the names of spec.json's target."""

    def __init__(self, target: Mapping[str, Any]) -> None:
        self._target = target

    def flow_run(self, client: Any, flow_run_id: Any) -> Any:
        """The claimed flow run."""
        found = _validated("FlowRun", "prefect.client.schemas.objects", self._target.get("flow_run"))
        if found is None:
            return client.read_flow_run(flow_run_id)
        # It was read just before the claim.
        found.state = importlib.import_module("prefect.states").Pending()
        found.state_type, found.state_name = found.state.type, found.state.name
        found.next_scheduled_start_time = None
        return found

    def deployment(self, client: Any, deployment_id: Any) -> Any:
        """The deployment of the run."""
        found = _validated("DeploymentResponse", "prefect.client.schemas.responses", self._target.get("deployment"))
        return client.read_deployment(deployment_id) if found is None else found


def _validated(name: str, module: str, document: Optional[Dict[str, Any]]) -> Any:
    if not document:
        return None
    model: Any = getattr(importlib.import_module(module), name)
    try:
        return model.model_validate(document)
    except ValueError:
        return None
