"""HUP, USR1 and USR2 of a real embedded server that answers requests meanwhile."""

from __future__ import annotations

import os
import signal
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tests.processes.server.test_notifications import Hook, fail
from tests.support.dialect import Client
from tests.support.http_server import http_server
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")


def test_the_server_takes_up_notifications_and_retention_and_stays_up_over_a_broken_file(tmp_path: Path) -> None:
    """A failure is notified by a rule that a reload brought, an old run deleted by a limit that one brought."""
    hook, server = Hook(), ServerProcess(tmp_path / "data")
    server.home.mkdir(mode=0o700)
    file = server.home / "config.toml"

    def hang_up(text: str, expected: str) -> None:
        file.write_text(text)
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: expected in server.stderr, what=lambda: f"{expected!r} in:\n{server.stderr}")

    with http_server(hook.answer) as url:
        server.start()
        try:
            pid, client = server.pid, Client(server)
            old = client.create_run()
            client.report(old, "Submitted")
            client.report(old, "Success", at=(datetime.now(timezone.utc) - timedelta(hours=2)).isoformat())
            hang_up("[server]\nkeep_finished = 'soon'\n", "all settings stay as they were: server.keep_finished")
            hang_up('[[notify.rules]]\non = ["failed"]\nto = ["nowhere"]\n', "nowhere")
            text = f'[[notify.channels]]\nname = "hook"\nwebhook = "{url}"\n[[notify.rules]]\non = ["failed"]\n'
            hang_up(f"{text}[server]\nkeep_finished = 3600\nschedule_ahead = 3\n", "Changed: notify.rules")
            assert "Needs a restart: server.schedule_ahead is 3, was 10" in server.stderr
            wait_until(lambda: client.run(old) is None, what="the old run is deleted")
            flows = fail(client, 1)
            wait_until(lambda: hook.flows() == flows, what=lambda: f"{flows}: {hook.messages}")
            os.kill(server.pid, signal.SIGUSR1)
            wait_until(lambda: "State: thread signals:" in server.stderr, what=lambda: server.stderr)
            assert "State: flowherd_runs Running 0" in server.stderr
            os.kill(server.pid, signal.SIGUSR2)
            wait_until(lambda: "no file that could be opened again" in server.stderr, what=lambda: server.stderr)
            assert server.pid == pid
        finally:
            assert server.stop() == 0, server.stderr
