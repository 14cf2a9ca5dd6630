"""A plain client of the dialect, as a foreign program would have: texts and JSON, without flowherd's own code."""

from __future__ import annotations

import json
import uuid
from typing import Any

import requests

from tests.support.server import ServerProcess

#: The selection of a mutation's result when a test gives no other.
_SELECTIONS = {
    "set_flow_run_states": "states { id status message }",
    "set_task_run_states": "states { id status message }",
    "get_or_create_task_run_info": "id version serialized_state",
    "get_runs_in_queue": "flow_run_ids",
    "offer_runs": "flow_runs",
    "claim_runs": "claims { flow_run_id won message }",
    "cancel_flow_run": "state",
    "report_agent": "news",
    "ask_agent": "order_id",
    "cancel_flow_runs": "flow_runs { flow_run_id state done }",
    "delete_flow_runs": "flow_runs { flow_run_id state done }",
    "retry_flow_runs": "flow_runs { flow_run_id id message }",
    **dict.fromkeys(
        (
            "write_run_logs",
            "set_schedule_active",
            "set_schedule_inactive",
            "archive_flow",
            "register_tasks",
            "register_edges",
            "delete_flow",
            "delete_flow_run",
            "disable_flow_heartbeat",
            "delete_project",
            "set_flow_run_name",
            "set_flow_run_labels",
            "set_task_run_name",
            "set_flow_group_labels",
            "set_flow_group_run_config",
            "set_flow_group_default_parameters",
            "set_flow_group_schedule",
            "delete_flow_group_schedule",
            "set_flow_group_description",
            "enable_flow_heartbeat",
            "disable_flow_heartbeat",
            "enable_flow_lazarus_process",
            "disable_flow_lazarus_process",
            "enable_flow_version_lock",
            "disable_flow_version_lock",
            "delete_agent",
            "delete_agent_config",
            "update_agent_config",
            "update_task_run_artifact",
            "delete_task_run_artifact",
            "delete_key_value",
            "set_secret",
            "delete_secret",
            "delete_task_tag_limit",
            "update_flow_run_heartbeat",
            "update_task_run_heartbeat",
        ),
        "success",
    ),
}


class Client:
    """Sends requests to one server; with `agent_id` as that agent."""

    def __init__(self, server: ServerProcess, agent_id: str | None = None) -> None:
        self.server = server
        self.agent_id = agent_id

    def answer(self, text: str, variables: Any = None) -> requests.Response:
        """Send a query; return the bare answer."""
        headers = {"X-PREFECT-CORE-VERSION": "1.4.1"}
        if self.agent_id is not None:
            headers["X-PREFECT-AGENT-ID"] = self.agent_id
        body = {"query": text, "variables": json.dumps(variables)}
        return self.server.post("/graphql", json=body, headers=headers)

    def ask(self, text: str, variables: Any = None) -> Any:
        """Send a query that must succeed; return its data."""
        response = self.answer(text, variables)
        body = response.json()
        assert response.status_code == 200, body
        assert "errors" not in body, body
        return body["data"]

    def do(self, operation: str, **given: Any) -> Any:
        """Send a mutation that must succeed; return its result."""
        return self.ask(_mutation(operation), {"input": given})[operation]

    def refused(self, operation: str, **given: Any) -> str:
        """Send a mutation that must be refused; return the message."""
        response = self.answer(_mutation(operation), {"input": given})
        body = response.json()
        assert response.status_code == 200, body
        assert body["data"] == {operation: None}, body
        return str(body["errors"][0]["message"])

    def project(self) -> str:
        """Create a project; return its id."""
        return str(self.do("create_project", name=f"project-{uuid.uuid4()}")["id"])

    def flow(self, project_id: str | None = None, set_schedule_active: bool = True, **document: Any) -> str:
        """Create a flow, of a command unless `document` says otherwise; return its id."""
        whole = {"name": f"flow-{uuid.uuid4()}", "storage": {"type": "Command", "argv": ["true"]}, **document}
        given = {"project_id": project_id or self.project(), "set_schedule_active": set_schedule_active}
        return str(self.do("create_flow", serialized_flow=whole, **given)["id"])

    def create_run(self, flow_id: str | None = None, **given: Any) -> str:
        """Create a run, of a new flow if none is given; return its id."""
        return str(self.do("create_flow_run", flow_id=flow_id or self.flow(), **given)["id"])

    def agent(self, *labels: str) -> Client:
        """Register an agent; return a client for it."""
        name = f"agent-{uuid.uuid4()}"
        return Client(self.server, self.do("register_agent", type="Test", name=name, labels=list(labels))["id"])

    def queue(self, *labels: str, **given: Any) -> list[str]:
        """Return the ids of the runs that an agent with these labels may claim."""
        found: list[str] = self.do("get_runs_in_queue", labels=list(labels), **given)["flow_run_ids"]
        return found

    def run(self, run_id: str, fields: str = "state version") -> Any:
        """Return fields of a run."""
        return self.ask(f'{{ flow_run_by_pk(id: "{run_id}") {{ {fields} }} }}')["flow_run_by_pk"]

    def report(
        self, run_id: str, state: str, version: int | None = None, claim: str | None = None, **more: Any
    ) -> None:
        """Report a state, which must be accepted."""
        self.do("set_flow_run_states", states=[report(run_id, state, version, claim, **more)])

    def report_refused(self, run_id: str, state: str, version: int | None = None, claim: str | None = None) -> str:
        """Report a state, which must be refused; return the message."""
        return self.refused("set_flow_run_states", states=[report(run_id, state, version, claim)])

    def going_run(self, *slugs: str, **document: Any) -> tuple[str, dict[str, str]]:
        """Create a Running run of a new flow with these tasks; return its id and the task runs' ids by slug."""
        run_id = self.create_run(self.flow(tasks=[{"slug": slug, "tags": [slug]} for slug in slugs], **document))
        self.report(run_id, "Submitted")
        self.report(run_id, "Running")
        rows = self.run(run_id, "task_runs { id task { slug } }")["task_runs"]
        return run_id, {row["task"]["slug"]: row["id"] for row in rows}

    def task_run(self, task_run_id: str, fields: str = "state version") -> Any:
        """Return fields of a task run."""
        return self.ask(f'{{ task_run_by_pk(id: "{task_run_id}") {{ {fields} }} }}')["task_run_by_pk"]

    def report_task(
        self, task_run_id: str, state: str, version: int | None = None, claim: str | None = None, **more: Any
    ) -> str:
        """Report a task run's state, which must not be refused; return the status in the answer."""
        answer = self.do("set_task_run_states", states=[task_report(task_run_id, state, version, claim, **more)])
        assert answer["states"][0]["id"] == task_run_id
        return str(answer["states"][0]["status"])

    def report_task_refused(
        self, task_run_id: str, state: str, version: int | None = None, claim: str | None = None, **more: Any
    ) -> tuple[str, str]:
        """Report a task run's state, which must be refused; return message and code."""
        states = [task_report(task_run_id, state, version, claim, **more)]
        body = self.answer(_mutation("set_task_run_states"), {"input": {"states": states}}).json()
        assert body["data"] == {"set_task_run_states": None}, body
        return body["errors"][0]["message"], body["errors"][0]["extensions"]["code"]

    def wake(self, seen: int = 0, timeout: float = 20) -> int:
        """Wait until this agent's wake sequence is not `seen`; return it."""
        response = self.server.get(f"/agents/{self.agent_id}/wake", params={"seen": seen, "timeout": timeout})
        assert response.status_code == 200, response.text
        return int(response.json()["sequence"])

    def connected(self) -> bool:
        """Whether the server takes this agent for connected."""
        return bool(self.ask(f'{{ agent_by_pk(id: "{self.agent_id}") {{ connected }} }}')["agent_by_pk"]["connected"])


def report(
    run_id: str, state: str, version: int | None = None, claim: str | None = None, at: str | None = None, **more: Any
) -> dict[str, Any]:
    """Return one entry of set_flow_run_states."""
    marks = {key: value for key, value in (("claim", claim), ("at", at)) if value is not None}
    context = {"flowherd": marks} if marks else {}
    serialized = {"type": state, "message": f"now {state}", "context": context, **more}
    return {"flow_run_id": run_id, "version": version, "state": serialized}


def task_report(
    task_run_id: str, state: str, version: int | None = None, claim: str | None = None, **more: Any
) -> dict[str, Any]:
    """Return one entry of set_task_run_states."""
    entry = report(task_run_id, state, version, claim, **more)
    entry["task_run_id"] = entry.pop("flow_run_id")
    return entry


def _mutation(operation: str) -> str:
    selection = _SELECTIONS.get(operation, "id")
    return f"mutation($input: {operation}_input!) {{ {operation}(input: $input) {{ {selection} }} }}"
