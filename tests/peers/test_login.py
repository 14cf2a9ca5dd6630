"""Users of Prefect Cloud log in with a key; the server's token is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.peers.environments import NEW, required_peer
from tests.peers.ground import on_ground

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def test_the_servers_token_logs_in_and_nothing_else_does(tmp_path: Path) -> None:
    with on_ground(required_peer(NEW), tmp_path, token="the-token") as ground:
        cloud = {"PREFECT__BACKEND": "cloud", "PREFECT__CLOUD__API": ground.server.url}
        ground.prefect("auth", "login", "--key", "another", code=1, **cloud)
        assert "Logged in" in ground.prefect("auth", "login", "--key", "the-token", **cloud)
        assert "mine created" in ground.prefect("create", "project", "mine", **cloud)
