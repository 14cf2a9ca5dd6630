"""Prefect's own LocalAgent at the embedded server, where that has more for it than runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.peers.environments import NEW, required_peer
from tests.peers.ground import on_ground, real_agent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def test_an_agent_gets_the_configuration_whose_id_it_was_told(tmp_path: Path) -> None:
    with on_ground(required_peer(NEW), tmp_path) as ground:
        config_id = ground.client.do("create_agent_config", name="ours", settings={"limit": [3]})["id"]
        options = ("--agent-config-id", config_id, "--log-level", "DEBUG", "--name", "configured")
        with real_agent(ground, *options) as agent:
            assert f"Loaded agent config {config_id}: {{'limit': [3]}}" in agent.text()
        (row,) = ground.client.ask("{ agent { name type core_version agent_config { id settings } } }")["agent"]
        assert row == {
            "name": "configured",
            "type": "LocalAgent",
            "core_version": NEW,
            "agent_config": {"id": config_id, "settings": {"limit": [3]}},
        }
