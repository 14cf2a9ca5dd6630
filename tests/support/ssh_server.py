"""Debian's sshd on a free port of loopback, which lets the tests' own user in by a key, as another host would."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.debian_programs import required_program
from tests.support.ports import free_port
from tests.support.waiting import wait_until

#: Directory that sshd as root wants to be there; Debian's service makes it.
_PRIVILEGE_SEPARATION = Path("/run/sshd")


@dataclass(frozen=True, kw_only=True)
class SSHServer:
    """A server, and how to reach it."""

    #: USER@HOST, for ssh.
    host: str
    #: Options of ssh that lead to it and to no other host.
    options: Sequence[str]


@contextmanager
def ssh_server(directory: Path) -> Iterator[SSHServer]:
    """Run the server until the end of the block. Skips the test without sshd."""
    program = required_program("sshd", "openssh-server")
    directory.mkdir()
    for name in ("host_key", "user_key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    if os.geteuid() == 0:
        _PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    port = free_port()
    (directory / "sshd_config").write_text(_CONFIGURATION.format(port=port, directory=directory))
    with (directory / "log").open("wb") as log:
        command = [str(program), "-D", "-e", "-f", str(directory / "sshd_config")]
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(lambda: server.poll() is not None or _answers(port), what=(directory / "log").read_text)
        assert server.poll() is None, (directory / "log").read_text()
        yield SSHServer(host=f"{getpass.getuser()}@127.0.0.1", options=_options(port, directory))
    finally:
        server.terminate()
        server.wait(10)


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _options(port: int, directory: Path) -> list[str]:
    options = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "LogLevel": "ERROR",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return ["-F", "/dev/null", "-p", str(port), "-i", str(directory / "user_key"), *words]


_CONFIGURATION = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/user_key.pub
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
PidFile none
"""
