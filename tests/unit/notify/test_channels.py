"""A command, a webhook and apprise as channels: what they get, and what counts as delivered."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from pathlib import Path

import pytest

from flowherd.notify.channels import AppriseChannel, CommandChannel, DeliveryFailed, WebhookChannel, secret_in
from flowherd.notify.message import Notification
from flowherd.notify.pace import Rate
from tests.support.http_server import Answer, CannedServer, canned_server

MESSAGE = Notification(
    id="8b0c6c0e-6a5e-4a5c-9d0e-6b8f4f0f9a11",
    kind="failed",
    at=1_700_000_000.0,
    title="nightly failed: it exited with 3",
    sentence="It exited with 3.",
    last_lines=["one", "two"],
    link="http://127.0.0.1:4200/runs/1",
).as_json()


@pytest.fixture
def hook() -> object:
    with canned_server() as server:
        yield server


def test_a_command_gets_the_message_as_json_and_no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWHERD__SERVER__TOKEN", "secret")
    script = f"cat > {tmp_path}/got; env > {tmp_path}/env"
    CommandChannel(command=["/bin/sh", "-c", script]).deliver(MESSAGE)
    assert json.loads((tmp_path / "got").read_text()) == MESSAGE
    assert "secret" not in (tmp_path / "env").read_text()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["/bin/sh", "-c", "echo no route >&2; exit 3"], "/bin/sh exited with 3: no route"),
        (["/bin/sh", "-c", "kill -9 $$"], "/bin/sh was ended by signal 9"),
        (["/no/such/program"], "/no/such/program cannot be started: .*No such file"),
        (["/bin/sh", "-c", "exec sleep 60"], "did not end within 0.2 s, and was killed"),
    ],
)
def test_a_command_that_fails_says_why(command: list[str], said: str) -> None:
    with pytest.raises(DeliveryFailed, match=said):
        CommandChannel(command=command, timeout_s=0.2 if "sleep" in command[-1] else 20).deliver(MESSAGE)


def test_a_webhook_gets_the_message_signed_by_its_body(hook: CannedServer, tmp_path: Path) -> None:
    key = b"0123456789abcdef01234567"
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text("whsec_" + base64.b64encode(key).decode() + "\n")
    WebhookChannel(url=f"{hook.url}/hook", secret=f"file:{secret}").deliver(MESSAGE)
    (request,) = hook.requests
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert (request.method, request.path, json.loads(request.body)) == ("POST", "/hook", MESSAGE)
    assert headers["webhook-id"] == MESSAGE["id"]
    content = b".".join((MESSAGE["id"].encode(), headers["webhook-timestamp"].encode(), request.body))
    wanted = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{wanted}"


def test_a_webhook_that_refuses_or_redirects_has_not_taken_it(hook: CannedServer) -> None:
    channel = WebhookChannel(url=f"{hook.url}/secret-path")
    hook.answers = [Answer(status=503, body=b"busy"), Answer(status=302, headers={"Location": "/other"})]
    for said in ("answered 503 Service Unavailable: busy", "answered 302"):
        with pytest.raises(DeliveryFailed, match=said) as failure:
            channel.deliver(MESSAGE)
        assert "secret-path" not in str(failure.value)
    assert [request.path for request in hook.requests] == ["/secret-path"] * 2


def test_a_webhook_that_is_not_there_fails_without_its_path() -> None:
    with canned_server() as server:
        url = f"{server.url}/secret-path"
    with pytest.raises(DeliveryFailed, match=r"cannot be reached: .*refused") as failure:
        WebhookChannel(url=url).deliver(MESSAGE)
    assert "secret-path" not in str(failure.value)


def test_a_secret_is_read_from_a_file_that_only_its_owner_may_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "url"
    path.write_text("https://example.org/hook\n")
    path.chmod(0o644)
    with pytest.raises(DeliveryFailed, match="other users may read it; chmod 600"):
        secret_in(f"file:{path}")
    path.chmod(0o600)
    assert secret_in(f"file:{path}") == "https://example.org/hook"
    monkeypatch.setenv("HOOK", "https://example.org/other")
    assert secret_in("env:HOOK") == "https://example.org/other"
    with pytest.raises(DeliveryFailed, match="NO_SUCH_HOOK is not set"):
        secret_in("env:NO_SUCH_HOOK")
    assert secret_in("https://example.org") == "https://example.org"


def test_apprise_delivers_what_its_url_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hook: CannedServer
) -> None:
    """A stand-in for the package, which is an extra: it has its interface, and posts what it is given."""
    (tmp_path / "apprise.py").write_text(
        "import json, urllib.request\n"
        "class Apprise:\n"
        "    def add(self, url):\n"
        "        self.url = url\n"
        "        return url.startswith('json://')\n"
        "    def notify(self, **given):\n"
        "        urllib.request.urlopen('http' + self.url[4:], json.dumps(given).encode()).close()\n"
        "        return True\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    AppriseChannel(url=f"json{hook.url[4:]}").deliver(MESSAGE)
    got = json.loads(hook.requests[0].body)
    assert (got["title"], got["notify_type"]) == (MESSAGE["title"], "warning")
    assert "The end of its log:\n  one\n  two" in got["body"]
    with pytest.raises(DeliveryFailed, match="apprise does not know such a URL"):
        AppriseChannel(url="nothing://token").deliver(MESSAGE)


def test_apprise_that_is_not_installed_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "apprise.py").write_text("raise ImportError('not here')\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    with pytest.raises(DeliveryFailed, match=r"pip install 'flowherd\[notify\]'"):
        AppriseChannel(url="json://127.0.0.1").deliver(MESSAGE)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example.org/T0/B0/secret", "https://hooks.example.org"),
        ("slack://token-a/token-b", "slack://…"),
        ("file:/etc/flowherd/hook", "file:/etc/flowherd/hook"),
    ],
)
def test_an_address_is_shown_without_what_may_be_secret(url: str, shown: str) -> None:
    assert AppriseChannel(url=url).shown == shown
    assert "secret" not in repr(AppriseChannel(url=url))


def test_after_a_burst_one_message_goes_out_each_pause() -> None:
    rate = Rate(burst=3, pause_s=60.0)
    assert rate.wait_s([], 1000.0) == 0
    sent = [1000.0, 1000.0, 1000.0]
    assert rate.left(sent[:2], 1000.0) == 1
    assert rate.wait_s(sent, 1000.0) == 60
    assert rate.wait_s(sent, 1030.0) == 30
    assert rate.wait_s(sent, 1060.0) == 0
    assert rate.wait_s([*sent, 1060.0], 1060.0) == 60
    assert rate.left(sent, 1000.0 + 3 * 60) == 3
    assert rate.window_s == 180
