"""Documents of the server about a run that the agent has read already: each request less makes the start shorter.

They are in spec.json, so that a run can begin without a request. When they are missing, or this Prefect cannot read
them, the server is asked.
"""

import importlib
from typing import Any, Dict, Mapping, Optional

from flowherd_runner.kinds.prefect3 import prefect_compat


class Documents:
    """The documents of one run, by their names in the target of spec.json."""

    def __init__(self, target: Mapping[str, Any]) -> None:
        self._target = target
        self._client: Any = None

    def flow_run(self, flow_run_id: Any) -> Any:
        """Return the claimed flow run."""
        found = _validated("FlowRun", "prefect.client.schemas.objects", self._target.get("flow_run"))
        if found is None:
            return self._server().read_flow_run(flow_run_id)
        # It was read just before the claim, which changed the state.
        found.state = importlib.import_module("prefect.states").Pending()
        found.state_type, found.state_name = found.state.type, found.state.name
        found.next_scheduled_start_time = None
        return found

    def deployment(self, deployment_id: Any) -> Any:
        """Return the deployment of the run."""
        found = _validated("DeploymentResponse", "prefect.client.schemas.responses", self._target.get("deployment"))
        return self._server().read_deployment(deployment_id) if found is None else found

    def _server(self) -> Any:
        """A client, made for the first request: most runs need none."""
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
