"""From a polled row to the flow run that an agent plans: its flow, its deployment, and how its pool has it run."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from flowherd.backends import json_values
from flowherd.backends.prefect3.blocks_and_variables import HeldValues
from flowherd.backends.prefect3.job_variables import Job, job, merged
from flowherd.backends.prefect3.pool import WorkPool
from flowherd.backends.prefect3.rows import RunRow
from flowherd.backends.prefect3.states import run_state
from flowherd.backends.prefect3.transport import Prefect3Transport
from flowherd.errors import BackendRefused
from flowherd.values import Flow, FlowRun

#: The word for what this backend hands out, in `Flow.storage`.
STORAGE_TYPE = "Prefect3"
_MOST_KNOWN = 1000
#: A deployment is read again after so long.
_DEPLOYMENT_HOLDS_S = 1.0
#: A deployment's answer, so far as a run's start needs it.
_OF_DEPLOYMENT = ("entrypoint", "path", "pull_steps", "storage_document_id", "version")


class DeploymentGone(Exception):
    """The run's deployment was deleted; nobody knows any more where its code is."""


class Descriptions:
    """Describes the runs of one poll. Made anew for each, for blocks and variables may change."""

    def __init__(
        self,
        transport: Prefect3Transport,
        pool: WorkPool,
        worker_name: str,
        flow_names: FlowNames,
        deployments: Deployments,
        server_version: str = "",
    ) -> None:
        self._transport = transport
        self._pool = pool
        self._worker_name = worker_name
        self._flow_names = flow_names
        self._server_version = server_version
        self._held = HeldValues(transport)
        self._deployments = deployments

    def flow_run(self, row: RunRow) -> FlowRun:
        """The run with all that its start needs.

        What makes it impossible to run stands in `storage["refused"]`, so that the run can be claimed and its end can
        say so. Raises DeploymentGone, and what requests raise.
        """
        flow_name = self._flow_names.name_of(row.flow_id)
        deployment = self._deployments.of(row.id, row.deployment_id) if row.deployment_id else {}
        storage = {name: deployment.get(name) for name in _OF_DEPLOYMENT}
        storage |= {"type": STORAGE_TYPE, "deployment_id": row.deployment_id, "deployment": deployment.get("name")}
        storage["documents"] = self._documents(row, deployment)
        config: dict[str, Any] = {"type": "LocalRun", "env": self._environment(row, flow_name, deployment)}
        try:
            own = self._job(row, deployment)
        except (ValueError, TypeError, KeyError) as error:
            storage["refused"] = f"The job variables cannot be used: {error}"
        else:
            config |= {"command": own.command, "stream_output": own.stream_output, "working_dir": own.working_dir}
            config["secret_env"] = list(own.secret_env)
            config["env"] = {name: value for name, value in {**config["env"], **own.env}.items() if value is not None}
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
            scheduled_start_time=row.due_at,
        )

    def _job(self, row: RunRow, deployment: Mapping[str, Any]) -> Job:
        variables = merged(json_values.mapping(deployment.get("job_variables") or {}), row.job_variables)
        return job(self._pool.facts.base_job_template, variables, os.environ, self._held.by_prefix())

    def _documents(self, row: RunRow, deployment: Mapping[str, Any]) -> dict[str, Any]:
        """What the engine would ask the server for: the deployment, and the run as an answer about it alone has it.

        Without the run where the name of its queue is not known yet.
        """
        found = {"deployment": dict(deployment)} if deployment else {}
        queue = self._pool.facts.queues.get(str(row.document.get("work_queue_id")))
        if queue is not None:
            of_pool = {"work_pool_id": self._pool.facts.id, "work_pool_name": self._pool.name}
            found["flow_run"] = {**row.document, **of_pool, "work_queue_name": queue}
        return found

    def _environment(self, row: RunRow, flow_name: str, deployment: Mapping[str, Any]) -> dict[str, str | None]:
        """What Prefect's worker sets for every run; job variables win over it."""
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
    """How Prefect's own client reaches the same API."""
    variables = {
        "PREFECT_API_URL": transport.address,
        "PREFECT_API_KEY": transport.api_key,
        "PREFECT_API_AUTH_STRING": transport.auth_string,
        "PREFECT_API_SSL_CERT_FILE": transport.ssl_cert_file,
    }
    return {name: value for name, value in variables.items() if value}


class Deployments:
    """Deployments by id, each read after the run that it describes was there, and within the last second.

    So a run that is made after a change of its deployment is described by the changed one, and many runs that wait for
    places are not as many questions.
    """

    def __init__(self, transport: Prefect3Transport) -> None:
        self._transport = transport
        self._read: OrderedDict[str, tuple[float, Mapping[str, Any]]] = OrderedDict()
        #: When each run was first asked for here (monotonic).
        self._seen: OrderedDict[str, float] = OrderedDict()

    def of(self, run_id: str, deployment_id: str) -> Mapping[str, Any]:
        """The deployment of that run. Raises DeploymentGone."""
        now_s = time.monotonic()
        seen_s = self._seen.setdefault(run_id, now_s)
        read_s, deployment = self._read.get(deployment_id, (0.0, {}))
        if read_s < max(seen_s, now_s - _DEPLOYMENT_HOLDS_S):
            deployment = self._ask(deployment_id)
            self._read[deployment_id] = now_s, deployment
        _forget_oldest(self._seen)
        _forget_oldest(self._read)
        return deployment

    def _ask(self, deployment_id: str) -> Mapping[str, Any]:
        try:
            return json_values.mapping(self._transport.get(f"/deployments/{deployment_id}"))
        except BackendRefused as error:
            if error.code == "404":
                raise DeploymentGone(f"Deployment {deployment_id} no longer exists.") from error
            raise


class FlowNames:
    """Names of flows by id; a flow keeps its name, so each is asked for once."""

    def __init__(self, transport: Prefect3Transport) -> None:
        self._transport = transport
        self._known: OrderedDict[str, str] = OrderedDict()

    def name_of(self, flow_id: str) -> str:
        """The flow's name."""
        name = self._known.get(flow_id)
        if name is None:
            row = json_values.mapping(self._transport.get(f"/flows/{flow_id}"))
            name = self._known[flow_id] = json_values.text(row["name"])
            _forget_oldest(self._known)
        return name


def _forget_oldest(known: OrderedDict[str, Any]) -> None:
    while len(known) > _MOST_KNOWN:
        known.popitem(last=False)
