"""What Prefect's own LocalAgent gets from the embedded server besides runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.peers.environments import PREFECT_1, required_installation
from tests.peers.prefect1.workspace import local_agent, running_workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def test_an_agent_gets_the_configuration_whose_id_it_was_told(tmp_path: Path) -> None:
    with running_workspace(required_installation(PREFECT_1), tmp_path) as workspace:
        config_id = workspace.client.do("create_agent_config", name="ours", settings={"limit": [3]})["id"]
        options = ("--agent-config-id", config_id, "--log-level", "DEBUG", "--name", "configured")
        with local_agent(workspace, *options) as agent:
            assert f"Loaded agent config {config_id}: {{'limit': [3]}}" in agent.text()
        (row,) = workspace.client.ask("{ agent { name type core_version agent_config { id settings } } }")["agent"]
        assert row == {
            "name": "configured",
            "type": "LocalAgent",
            "core_version": PREFECT_1,
            "agent_config": {"id": config_id, "settings": {"limit": [3]}},
        }
