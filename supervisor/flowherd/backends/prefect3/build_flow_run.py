"""Build the flow run that an agent can start from a polled row: add its flow, its deployment and its job variables."""

from __future__ import annotations

import json
import os
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from flowherd.backends import json_values
from flowherd.backends.prefect3.blocks_and_variables import BlocksAndVariables
from flowherd.backends.prefect3.job_variables import JobConfiguration, job_configuration, merge_job_variables
from flowherd.backends.prefect3.pool import WorkPool
from flowherd.backends.prefect3.run_row import RunRow
from flowherd.backends.prefect3.state_types import run_state
from flowherd.backends.prefect3.transport import Prefect3Transport
from flowherd.errors import BackendRefused
from flowherd.values import Flow, FlowRun

#: Type in `Flow.storage` of the runs of this backend.
STORAGE_TYPE = "Prefect3"
#: Maximum number of entries in each cache.
_MAX_CACHED = 1000
#: Time after which a deployment is read again, seconds.
_DEPLOYMENT_VALID_S = 1.0
#: The fields of a deployment that a run's start needs.
_DEPLOYMENT_FIELDS = ("entrypoint", "path", "pull_steps", "storage_document_id", "version")


class DeploymentGone(Exception):
    """The run's deployment was deleted, so it is no longer known where its code is."""


class FlowRunBuilder:
    """Builds the flow runs of one poll; make a new one for each, because blocks and variables may change."""

    def __init__(
        self,
        transport: Prefect3Transport,
        pool: WorkPool,
        worker_name: str,
        flow_names: FlowNameCache,
        deployments: DeploymentCache,
        server_version: str = "",
    ) -> None:
        self._transport = transport
        self._pool = pool
        self._worker_name = worker_name
        self._flow_names = flow_names
        self._server_version = server_version
        self._blocks_and_variables = BlocksAndVariables(transport)
        self._deployments = deployments

    def flow_run(self, row: RunRow) -> FlowRun:
        """Return the run with all that its start needs.

        If its job variables make it impossible to run, the reason is in `storage["refused"]`, so that the run can be
        claimed and failed with this reason. Raises DeploymentGone, BackendError and DECODING_ERRORS.
        """
        flow_name = self._flow_names.name(row.flow_id)
        deployment = self._deployments.deployment(row.id, row.deployment_id) if row.deployment_id else {}
        storage = {name: deployment.get(name) for name in _DEPLOYMENT_FIELDS}
        storage |= {"type": STORAGE_TYPE, "deployment_id": row.deployment_id, "deployment": deployment.get("name")}
        storage["documents"] = self._documents(row, deployment)
        config: dict[str, Any] = {"type": "LocalRun", "env": self._environment(row, flow_name, deployment)}
        try:
            job = self._job_configuration(row, deployment)
        except (ValueError, TypeError, KeyError) as error:
            storage["refused"] = f"The job variables cannot be used: {error}"
        else:
            config |= {"command": job.command, "stream_output": job.stream_output, "working_dir": job.working_dir}
            config["secret_env"] = list(job.secret_env)
            config["env"] = {name: value for name, value in {**config["env"], **job.env}.items() if value is not None}
        return FlowRun(
            id=row.id,
            name=row.name,
            version=row.run_count,
            state=run_state(row),
            serialized_state=row.state or {"type": row.state_type, "name": row.state_name},
            flow=Flow(id=row.flow_id, name=flow_name, storage=storage, core_version=self._server_version or None),
            labels=row.tags,
            parameters=row.parameters,
            run_config=config,
            scheduled_start_time=row.due_at.isoformat() if row.due_at else None,
        )

    def _job_configuration(self, row: RunRow, deployment: Mapping[str, Any]) -> JobConfiguration:
        of_deployment = json_values.mapping(deployment.get("job_variables") or {})
        variables = merge_job_variables(of_deployment, row.job_variables)
        look_up = self._blocks_and_variables.by_prefix()
        return job_configuration(self._pool.facts.base_job_template, variables, os.environ, look_up)

    def _documents(self, row: RunRow, deployment: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the engine would otherwise request from the server: the deployment, and the run itself.

        The run is as a request for it alone returns it; it is left out if the name of its queue is not known yet.
        """
        found = {"deployment": dict(deployment)} if deployment else {}
        queue = self._pool.facts.queues.get(str(row.document.get("work_queue_id")))
        if queue is not None:
            of_pool = {"work_pool_id": self._pool.facts.id, "work_pool_name": self._pool.name}
            found["flow_run"] = {**row.document, **of_pool, "work_queue_name": queue}
        return found

    def _environment(self, row: RunRow, flow_name: str, deployment: Mapping[str, Any]) -> dict[str, str | None]:
        """Return the variables that Prefect's worker sets for every run; job variables win over them."""
        return {
            **access_variables(self._transport),
            "PREFECT__FLOW_RUN_ID": row.id,
            "PREFECT__FLOW_ID": row.flow_id,
            "PREFECT__FLOW_NAME": flow_name,
            "PREFECT__DEPLOYMENT_ID": row.deployment_id,
            "PREFECT__DEPLOYMENT_NAME": json_values.text_or_none(deployment.get("name")),
            "PREFECT__WORKER_NAME": self._worker_name,
        }


def access_variables(transport: Prefect3Transport) -> dict[str, str]:
    """Return the variables with which Prefect's own client reaches the same API."""
    variables = {
        "PREFECT_API_URL": transport.address,
        "PREFECT_API_KEY": transport.api_key,
        "PREFECT_API_AUTH_STRING": transport.auth_string,
        "PREFECT_API_SSL_CERT_FILE": transport.route.authorities,
        "PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "" if transport.route.verify else "true",
        "PREFECT_CLIENT_CUSTOM_HEADERS": json.dumps(dict(transport.route.headers)) if transport.route.headers else "",
    }
    return {name: value for name, value in variables.items() if value}


class DeploymentCache:
    """Deployments by id, each read after its run was first seen and at most a second ago.

    So a run that is made after a change of its deployment gets the changed one, and many runs that wait for a free slot
    do not cause as many requests.
    """

    def __init__(self, transport: Prefect3Transport) -> None:
        self._transport = transport
        #: Deployments by id, with the time when they were read (monotonic).
        self._read: OrderedDict[str, tuple[float, Mapping[str, Any]]] = OrderedDict()
        #: Time when each run was first seen here (monotonic), by run id.
        self._seen: OrderedDict[str, float] = OrderedDict()

    def deployment(self, run_id: str, deployment_id: str) -> Mapping[str, Any]:
        """Return the deployment of a run. Raises DeploymentGone."""
        now_s = time.monotonic()
        seen_s = self._seen.setdefault(run_id, now_s)
        read_s, deployment = self._read.get(deployment_id, (0.0, {}))
        if read_s < max(seen_s, now_s - _DEPLOYMENT_VALID_S):
            deployment = self._request(deployment_id)
            self._read[deployment_id] = now_s, deployment
        _drop_oldest(self._seen)
        _drop_oldest(self._read)
        return deployment

    def _request(self, deployment_id: str) -> Mapping[str, Any]:
        try:
            return json_values.mapping(self._transport.get(f"/deployments/{deployment_id}"))
        except BackendRefused as error:
            if error.code == "404":
                raise DeploymentGone(f"Deployment {deployment_id} no longer exists.") from error
            raise


class FlowNameCache:
    """Names of flows by id; a flow keeps its name, so each is requested once."""

    def __init__(self, transport: Prefect3Transport) -> None:
        self._transport = transport
        self._known: OrderedDict[str, str] = OrderedDict()

    def name(self, flow_id: str) -> str:
        """Return the flow's name."""
        name = self._known.get(flow_id)
        if name is None:
            row = json_values.mapping(self._transport.get(f"/flows/{flow_id}"))
            name = self._known[flow_id] = json_values.text(row["name"])
            _drop_oldest(self._known)
        return name


def _drop_oldest(cache: OrderedDict[str, Any]) -> None:
    while len(cache) > _MAX_CACHED:
        cache.popitem(last=False)
