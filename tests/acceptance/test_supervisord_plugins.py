"""flowherd's plugins in a real supervisord and a real supervisorctl, beside an agent that it runs."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import xmlrpc.client
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import CommandLine, background
from tests.support.leftovers import none_left
from tests.support.ports import free_port
from tests.support.supervisord import MAIN, Supervisord, running_supervisord
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

PLUGINS = """
[inet_http_server]
port=127.0.0.1:{port}
username=operator
password=a b%%c

[rpcinterface:flowherd]
supervisor.rpcinterface_factory = flowherd_supervisord:rpc_interface
socket = {socket}

[rpcinterface:elsewhere]
supervisor.rpcinterface_factory = flowherd_supervisord:rpc_interface
socket = {place}/none.sock

[rpcinterface:wrong]
supervisor.rpcinterface_factory = flowherd_supervisord:rpc_interface
sockt = {socket}

[rpcinterface:silent]
supervisor.rpcinterface_factory = flowherd_supervisord:rpc_interface
socket = {place}/silent.sock
timeout = 0.3

[ctlplugin:flowherd]
supervisor.ctl_factory = flowherd_supervisord:control_plugin
"""


@dataclass(frozen=True)
class Scene:
    command: CommandLine
    supervisord: Supervisord
    port: int

    def flowherd(self, *words: str, code: int = 0) -> str:
        """Run `supervisorctl flowherd`."""
        done = self.supervisord.call_control("flowherd", *words)
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    # The path of supervisord's socket must be short: sun_path has room for 108 bytes (unix(7)).
    place = tmp_path_factory.mktemp("s")
    home = place / "home"
    home.mkdir()
    command, port = CommandLine(home), free_port()
    with none_left(), background(command, "server", "--port", "0", until="ready at"):
        section = command("install", "supervisord", "--name", "worker", "--home", str(home), "--limit", "8").stdout
        (place / "flowherd.conf").write_text(section)
        socket = home / "agents" / "worker" / "control.sock"
        text = MAIN.format(place=place) + PLUGINS.format(place=place, port=port, socket=socket)
        with running_supervisord(place, text) as supervisord:
            assert supervisord.is_up(), (place / "out").read_text() + supervisord.log
            wait_until(socket.exists, what=lambda: supervisord.control("tail", "flowherd"))
            yield Scene(command, supervisord, port)


def test_x(scene: Scene) -> None:
    print(scene.flowherd("health"))
    assert 0
