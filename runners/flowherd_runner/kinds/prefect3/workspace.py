"""Fetches the flow's code and enters its directory, as Prefect's process worker does before it starts the engine.

Pull steps or storage run in the working directory; after them, the process is in the directory that they lead to, and
the entrypoint is known.
"""

import importlib
import os
import sys
from typing import Any, List, Optional

from flowherd_runner.kinds.prefect3 import prefect_compat
from flowherd_runner.kinds.prefect3.known_documents import Documents

_RESOLVER = "prefect.runner._workspace_resolver"
_STARTER = "prefect.runner._workspace_starter"
_SUPERVISOR = "prefect.runner._workspace_supervisor"
_ENTRYPOINT = "PREFECT__FLOW_ENTRYPOINT"
#: Set to false because the engine's supervisor, here flowherd, is responsible for state and hooks of a cancelled run.
_SUPERVISED = "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS"


def prepare(flow_run: Any, documents: Documents) -> Optional[List[str]]:
    """Fetch and enter the code of `flow_run`; return the command to become if its project needs one (uv), else None.

    Raises what Prefect raises when the code cannot be had.
    """
    os.environ[_SUPERVISED] = "false"
    command = None
    if flow_run.deployment_id is not None and prefect_compat.can_fetch():
        command = _enter(flow_run, documents.deployment(flow_run.deployment_id))
    # `python -m prefect.engine` would find modules there.
    sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()
    return command


def _enter(flow_run: Any, deployment: Any) -> Optional[List[str]]:
    supervisor: Any = importlib.import_module(_SUPERVISOR)
    given = {name: value for name, value in os.environ.items() if supervisor._runner_owns_environment_key(name)}
    workspace = importlib.import_module("anyio").run(_pull, flow_run, deployment)
    environment = importlib.import_module(_STARTER).workspace_environment(workspace)
    os.environ["PYTHONPATH"] = environment["PYTHONPATH"]
    # A pull step must not change which run this is.
    supervisor._restore_runner_environment(os.environ, given)
    os.environ[_ENTRYPOINT] = workspace.runtime_entrypoint
    command = supervisor._workspace_command(workspace, None, environment=os.environ)
    if command is None:
        return None
    split: List[str] = importlib.import_module("prefect.utilities.processutils").command_from_string(command)
    return split


async def _pull(flow_run: Any, deployment: Any) -> Any:
    resolver: Any = importlib.import_module(_RESOLVER)
    if deployment.storage_document_id is None:  # nothing else uses the API there
        return await resolver.prepare_workspace(None, flow_run, deployment, os.getcwd())
    async with importlib.import_module("prefect.client.orchestration").get_client() as client:
        return await resolver.prepare_workspace(client, flow_run, deployment, os.getcwd())
