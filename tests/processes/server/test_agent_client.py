"""`Agent.client` at a real server, as subclasses written for Prefect's agents use it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from flowherd import Agent, BackendRefused, ClaimLost
from flowherd.config import load_settings
from flowherd.values import FlowRun
from tests.support.agents import going
from tests.support.dialect import Client
from tests.support.waiting import wait_until


@pytest.fixture
def agent(client: Client) -> Iterator[Agent]:
    made = Agent(settings=load_settings({"cloud.api": client.server.url}))
    yield made
    made.backend.close()


class State:
    """A state as a program with Prefect has it."""

    def serialize(self) -> dict[str, str]:
        return {"type": "Running", "message": "from an object"}


def test_queries_are_text_or_nested_dicts_and_answers_are_read_by_attribute(agent: Agent, client: Client) -> None:
    flow = client.flow()
    run_id = client.create_run(flow, parameters={"x": 1})
    text = f'query {{ flow_run(where: {{id: {{_eq: "{run_id}"}}}}) {{ id parameters flow {{ id }} }} }}'
    nested = {
        "query": {f'flow_run(where: {{id: {{_eq: "{run_id}"}}}})': {"id": True, "parameters": ..., "flow": {"id"}}}
    }
    for query in (text, nested):
        (row,) = agent.client.graphql(query).data.flow_run
        assert (row.id, row["parameters"], row.flow.id) == (run_id, {"x": 1}, flow)
    with_variables = agent.client.graphql(
        {"mutation($input: get_runs_in_queue_input!)": {"get_runs_in_queue(input: $input)": {"flow_run_ids"}}},
        variables={"input": {"labels": [str(uuid.uuid4())]}},
    )
    assert with_variables.data.get_runs_in_queue.flow_run_ids == []


def test_an_error_of_the_server_is_raised_or_returned(agent: Agent) -> None:
    with pytest.raises(BackendRefused, match="nowhere"):
        agent.client.graphql("query { nowhere { id } }")
    with pytest.raises(BackendRefused, match=f"has no flow run {uuid.UUID(int=0)}"):
        agent.client.get_flow_run_info(str(uuid.UUID(int=0)))
    refused = agent.client.graphql(
        "mutation($input: cancel_flow_run_input!) { cancel_flow_run(input: $input) { state } }",
        variables={"input": {"flow_run_id": str(uuid.UUID(int=0))}},
        raise_on_error=False,
    )
    assert refused.errors[0].message and refused.data.cancel_flow_run is None


def test_a_flow_runs_state_is_set_with_its_version_and_read_again(agent: Agent, client: Client) -> None:
    run_id, tasks = client.going_run("t")
    info = agent.client.get_flow_run_info(run_id)
    assert (info.id, info.parameters, info.state.type) == (run_id, {}, "Running")
    assert info.state.is_running() and not info.state.is_finished()
    assert [(one.id, one.task_slug) for one in info.task_runs] == [(tasks["t"], "t")]
    assert info.task_runs[0].state.is_pending() and info.project is not None and info.project.name
    assert info.scheduled_start_time is not None and info.scheduled_start_time.tzinfo is not None

    agent.client.set_task_run_state(tasks["t"], {"type": "Running"})
    assert agent.client.get_task_run_state(tasks["t"]).is_running()
    state = State()
    assert agent.client.set_flow_run_state(run_id, state, info.version) is state
    changed = agent.client.get_flow_run_state(run_id)
    assert (changed.type, changed.message) == ("Running", "from an object")
    agent.client.set_flow_run_state(flow_run_id=run_id, version=None, state="Failed")
    assert agent.client.get_flow_run_state(run_id).is_failed()
    assert client.run(run_id)["state"] == "Failed"


def test_a_state_for_another_version_is_a_lost_claim(agent: Agent, client: Client) -> None:
    run_id = client.create_run()
    version = agent.client.get_flow_run_info(run_id).version
    client.report(run_id, "Submitted")
    with pytest.raises(ClaimLost):
        agent.client.set_flow_run_state(run_id, "Submitted", version)


def test_a_task_run_that_the_server_queues_is_queued(agent: Agent, client: Client) -> None:
    tag = f"tag-{uuid.uuid4()}"
    client.do("update_task_tag_limit", tag=tag, limit=0)
    _, tasks = client.going_run(tag)
    queued = agent.client.set_task_run_state(tasks[tag], {"type": "Running"})
    assert queued.is_queued() and queued.message and queued.start_time


def test_lines_are_written_to_a_runs_log(agent: Agent, client: Client) -> None:
    run_id = client.create_run()
    line = {"flow_run_id": run_id, "name": "agent", "message": "from the subclass", "level": "INFO"}
    agent.client.write_run_logs([line])
    assert client.run(run_id, "logs { name level message }")["logs"] == [
        {key: line[key] for key in ("name", "level", "message")}
    ]


def test_an_agents_id_goes_with_every_request_and_its_configuration_can_be_read(agent: Agent, client: Client) -> None:
    settings = {"labels": ["x"], "health_check": True}
    config = client.do("create_agent_config", name=str(uuid.uuid4()), settings=settings)["id"]
    assert agent.client.get_agent_config(config) == settings
    agent_id = agent._register_agent()
    assert agent.client._attached_headers == {"X-PREFECT-AGENT-ID": agent_id}
    label = str(uuid.uuid4())
    agent.client.graphql(f'mutation {{ get_runs_in_queue(input: {{labels: ["{label}"]}}) {{ flow_run_ids }} }}')
    assert client.ask(f'{{ agent_by_pk(id: "{agent_id}") {{ last_queried }} }}')["agent_by_pk"]["last_queried"]
    other = agent.client.register_agent("SshAgent", name=str(uuid.uuid4()), labels=["y"], agent_config_id=config)
    assert client.ask(f'{{ agent_by_pk(id: "{other}") {{ type labels }} }}')["agent_by_pk"] == {
        "type": "SshAgent",
        "labels": ["y"],
    }


def test_other_paths_of_the_server_are_reached(agent: Agent, client: Client) -> None:
    assert agent.client.get("/health") == client.server.get("/health").json()
    answer = agent.client.post("graphql", params={"query": "query { hello }", "variables": "null"})
    assert answer["data"]["hello"] == agent.client.graphql("query { hello }").data.hello


def test_a_tenant_and_a_cancelled_run(agent: Agent, client: Client) -> None:
    assert agent.client.tenant_id == client.ask("{ tenant { id } }")["tenant"][0]["id"]
    run_id, _ = client.going_run("t")
    agent.client.update_flow_run_heartbeat(run_id)
    assert client.run(run_id, "heartbeat")["heartbeat"]
    assert agent.client.cancel_flow_run(run_id) is True
    assert agent.client.get_flow_run_state(run_id).type == "Cancelling"


def test_hooks_of_a_subclass_use_client_and_logger_while_the_agent_works(client: Client) -> None:
    class Watching(Agent):
        """Deploys nothing itself: reports its runs as ended, as an agent of a batch queue does."""

        def query_flow_runs(self) -> list[FlowRun]:
            """Read the rows itself, as an agent that prefers some runs to others would."""
            ids = self.client.graphql(
                {"mutation($input: get_runs_in_queue_input!)": {"get_runs_in_queue(input: $input)": {"flow_run_ids"}}},
                variables={"input": {"labels": self.labels, "tenant_id": self.client.tenant_id}},
            ).data.get_runs_in_queue.flow_run_ids
            fields = "id version state serialized_state parameters flow { id name environment storage version }"
            query = f"query($ids: [uuid!]) {{ flow_run(where: {{id: {{_in: $ids}}}}) {{ {fields} }} }}"
            rows: list[FlowRun] = self.client.graphql(query, variables={"ids": ids}).data.flow_run
            return rows

        def deploy_flow(self, flow_run: FlowRun) -> str:
            self.logger.info("Deploying %s", flow_run.id)
            info = self.client.get_flow_run_info(flow_run.id)
            self.client.set_flow_run_state(flow_run_id=flow_run.id, version=info.version, state={"type": "Running"})
            self.client.set_flow_run_state(flow_run_id=flow_run.id, state={"type": "Success", "message": "spooled"})
            return flow_run.flow.storage.argv[0]  # type: ignore[no-any-return]

    label = str(uuid.uuid4())
    run_id = client.create_run(labels=[label])
    with going(Watching(labels=[label], settings=load_settings({"cloud.api": client.server.url}))):
        wait_until(lambda: client.run(run_id, "logs { message }")["logs"], what="the agent's own line")
    assert client.run(run_id)["state"] == "Success"
    assert client.run(run_id, "logs { message }")["logs"] == [{"message": "Submitted for execution: true"}]
