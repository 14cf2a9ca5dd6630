"""Users of Prefect Cloud log in with a key; the server's token works as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.peers.environments import PREFECT_1, required_installation
from tests.peers.prefect1.workspace import running_workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def test_the_servers_token_logs_in_and_nothing_else_does(tmp_path: Path) -> None:
    with running_workspace(required_installation(PREFECT_1), tmp_path, token="the-token") as workspace:
        cloud = {"PREFECT__BACKEND": "cloud", "PREFECT__CLOUD__API": workspace.server.url}
        workspace.prefect("auth", "login", "--key", "another", code=1, more=cloud)
        assert "Logged in" in workspace.prefect("auth", "login", "--key", "the-token", more=cloud)
        assert "mine created" in workspace.prefect("create", "project", "mine", more=cloud)
