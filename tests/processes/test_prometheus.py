"""The metrics of agent and server, read by a real Prometheus, over a restart of both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from flowherd import LocalAgent
from flowherd.config import load_settings
from flowherd.states import FINISHED
from tests.support.agents import going
from tests.support.dialect import Client
from tests.support.ports import free_port
from tests.support.prometheus import CONF, RULES, Prometheus, configuration, promtool, running_prometheus
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

ALERTS = Path(__file__).resolve().parents[1] / "fixtures" / "prometheus" / "alerts.yml"
DASHBOARD = CONF / "grafana" / "flowherd.json"
ENDS = "flowherd_runs_ended_total"
JOBS = ("flowherd-server", "flowherd-agent")


def test_the_alerts_fire_for_what_they_are_about(tmp_path: Path) -> None:
    shutil.copy(RULES, tmp_path)
    shutil.copy(ALERTS, tmp_path)
    promtool("test", "rules", tmp_path / ALERTS.name)


def test_the_example_configuration_is_one() -> None:
    assert "SUCCESS: 1 rule files found" in promtool("check", "config", CONF / "prometheus" / "prometheus.yml")


@contextmanager
def agent_of(server: ServerProcess, port: int) -> Iterator[str]:
    """An agent with a limit of 5 runs; yields the address of its API."""
    settings = load_settings({"cloud.api": server.url})
    agent = LocalAgent(
        labels=["x"], hostname_label=False, agent_address=f"http://127.0.0.1:{port}", limit=5, settings=settings
    )
    with going(agent):
        yield wait_until(lambda: agent.api_address)


@contextmanager
def closing_server(server: ServerProcess) -> Iterator[None]:
    server.start()
    try:
        yield
    finally:
        server.stop()


def flow(client: Client, script: str, name: str) -> str:
    storage = {"type": "Command", "argv": ["sh", "-c", script]}
    return client.flow(name=name, storage=storage, run_config={"type": "LocalRun", "labels": ["x"]})


def run_once(client: Client, flow_id: str) -> None:
    run_id = client.create_run(flow_id)
    wait_until(lambda: client.run(run_id)["state"] in FINISHED, what="the end of a run")


def text_of(address: str, path: str = "/metrics") -> str:
    answer = requests.get(address + path, timeout=10)
    assert answer.status_code == 200
    return answer.text


def test_counters_go_on_over_a_restart_of_agent_and_server(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    server = ServerProcess(tmp_path / "server", port=ports[0])
    config = configuration(tmp_path, *(f"127.0.0.1:{port}" for port in ports))
    with running_prometheus(config) as prometheus, closing_server(server):
        client = Client(server)
        good, bad = flow(client, "echo a; echo b", "good"), flow(client, "exit 3", "bad")
        with agent_of(server, ports[1]) as address:
            scraped(prometheus, lambda job: prometheus.number(f'up{{job="{job}"}}') == 1)
            for flow_id in (good, good, bad):
                run_once(client, flow_id)
            scraped(prometheus, lambda job: prometheus.number(f'sum({ENDS}{{job="{job}"}})') == 3)
            check_texts(client, server, address)
        server.restart()
        with agent_of(server, ports[1]):
            scraped(prometheus, lambda job: prometheus.number(f'up{{job="{job}"}}') == 1)
            wait_until(lambda: prometheus.number(f'sum({ENDS}{{job="{JOBS[0]}"}})') == 0, what="the server's 0")
            run_once(client, good)
            for job in JOBS:
                selector = f'{ENDS}{{job="{job}",flow="good",result="Success"}}'
                wait_until(lambda selector=selector: prometheus.number(selector) == 1)  # type: ignore[misc]
                assert prometheus.increase(selector) == 3, f"runs of the flow good, by {job}"
                assert prometheus.increase(f'{ENDS}{{job="{job}",flow="bad"}}') == 1
            check_failing_flow(prometheus)
            check_dashboard(prometheus)


def scraped(prometheus: Prometheus, condition: Callable[[str], bool]) -> None:
    """Wait until Prometheus has scraped of both jobs what fulfils the condition."""
    wait_until(lambda: all(map(condition, JOBS)), what=lambda: str(prometheus.query(ENDS)))


def check_texts(client: Client, server: ServerProcess, address: str) -> None:
    """promtool finds nothing wrong in either text, and ids of runs are there only if asked for."""
    run_id = client.create_run(flow(client, "exec sleep 60", "sleeper"))
    wait_until(lambda: client.run(run_id)["state"] == "Running")
    wait_until(lambda: f'flow_run_id="{run_id}"' in text_of(address, "/metrics?runs=1"))
    texts = text_of(address), text_of(server.url)
    assert 'flowherd_flow_processes{flow="sleeper"}' in texts[0]
    assert 'flowherd_runs{state="Running"} 1.0' in texts[1]
    for text in texts:
        assert run_id not in text
        assert promtool("check", "metrics", given=text) == ""
    client.do("cancel_flow_run", flow_run_id=run_id)
    wait_until(lambda: client.run(run_id)["state"] == "Cancelled")


def check_failing_flow(prometheus: Prometheus) -> None:
    """The server knows after its restart that a flow failed before it, and the alert about that fires."""

    def firing() -> list[Any]:
        alerts = prometheus.get("alerts")["alerts"]
        return [one["labels"].get("flow") for one in alerts if one["labels"]["alertname"] == "FlowherdFlowFailing"]

    wait_until(lambda: firing() == ["bad"], what=lambda: str(prometheus.get("alerts")))
    (group,) = prometheus.get("rules")["groups"]
    assert [rule["name"] for rule in group["rules"] if rule["health"] != "ok"] == []


def check_dashboard(prometheus: Prometheus) -> None:
    """Each query of the dashboard can be answered, and all but those about running runs have an answer."""
    empty = []
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"].replace("$__rate_interval", "1m")
            if not prometheus.query(expression.replace("$instance", ".*").replace("$flow", ".*")):
                empty.append(panel["title"])
    assert set(empty) <= {"Memory by flow", *([] if Path("/proc/pressure/memory").exists() else ["Pressure"])}
