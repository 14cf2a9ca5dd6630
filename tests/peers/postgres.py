"""A PostgreSQL for one test: a cluster in a temporary directory, on a free port of loopback.

    python -m tests.peers.postgres        print the directory of the binaries that would be used

Debian keeps the binaries outside PATH, in a directory for each version. The server refuses to run as root, so root
runs it as the user that Debian's package has made, else as nobody.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.leftovers import current_mark
from tests.support.ports import free_port
from tests.support.waiting import wait_until

_DEBIAN = Path("/usr/lib/postgresql")
_PROGRAMS = ("initdb", "postgres", "createdb", "pg_isready")
_ROLE = _DATABASE = "prefect"
#: Durability does not matter here.
_SETTINGS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=60")
_START_S = 60.0
_STOP_S = 30.0
#: As in tests/peers/environments.py.
_REQUIRED = os.environ.get("FLOWHERD_REQUIRE_PEERS") == "1"


def binaries() -> Path | None:
    """Find the directory with PostgreSQL's programs: the newest of Debian's, else the one on PATH."""
    of_debian = sorted(_DEBIAN.glob("*/bin"), key=lambda found: float(found.parent.name), reverse=True)
    on_path = shutil.which("postgres")
    candidates = [*of_debian, *([Path(on_path).resolve().parent] if on_path else [])]
    return next((place for place in candidates if all((place / name).exists() for name in _PROGRAMS)), None)


def required_binaries() -> Path:
    """Return it, or skip the test without PostgreSQL (fail it where peers are required)."""
    found = binaries()
    if found is not None:
        return found
    missing = f"there is no PostgreSQL under {_DEBIAN} or on PATH; apt-get install postgresql"
    if _REQUIRED:
        pytest.fail(f"FLOWHERD_REQUIRE_PEERS=1, but {missing}", pytrace=False)
    pytest.skip(missing)


class Postgres:
    """One cluster and its server process, with a role that has a password and an empty database."""

    def __init__(self, programs: Path, place: Path) -> None:
        self._programs = programs
        self._place = place
        self._port = free_port()
        self._password = secrets.token_hex(8)
        self._user = _unprivileged()
        self._mark = current_mark()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Value for PREFECT_SERVER_DATABASE_CONNECTION_URL."""
        return f"postgresql+asyncpg://{_ROLE}:{self._password}@127.0.0.1:{self._port}/{_DATABASE}"

    @property
    def log(self) -> str:
        return (self._place / "log").read_text(errors="replace")

    def make(self) -> None:
        """Make the files of the cluster."""
        self._place.chmod(0o700)
        password = self._place / "password"
        password.write_text(self._password)
        if self._user is not None:
            for path in (self._place, password):
                shutil.chown(path, self._user)
        words = ["-U", _ROLE, "--auth", "scram-sha-256", "--pwfile", str(password), "--no-sync", "-E", "UTF8"]
        self._call("initdb", "-D", str(self._place / "data"), *words)

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        settings = [*_SETTINGS, f"unix_socket_directories={self._place}", "listen_addresses=127.0.0.1"]
        options = [word for setting in settings for word in ("-c", setting)]
        with (self._place / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", str(self._place / "data"), "-p", str(self._port), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._mark},
                user=self._user,
                cwd=self._place,
            )
        wait_until(self._accepts, timeout_s=_START_S, what=lambda: self.log[-2000:])

    def make_database(self) -> None:
        self._call("createdb", *self._address(), "-U", _ROLE, _DATABASE)

    def stop(self) -> None:
        """Stop it by its fast way: clients are cut off, and what was committed is kept."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)  # its children end too, which they would not after SIGKILL
            self._process.wait(_STOP_S)
        self._process = None

    def _accepts(self) -> bool:
        assert self._process is not None and self._process.poll() is None, f"PostgreSQL has ended: {self.log[-2000:]}"
        asked = subprocess.run([self._programs / "pg_isready", "-q", *self._address()], check=False)
        return asked.returncode == 0

    def _address(self) -> list[str]:
        return ["-h", "127.0.0.1", "-p", str(self._port)]

    def _call(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments],
            env={**os.environ, "PGPASSWORD": self._password, "LC_ALL": "C"},
            user=self._user,
            cwd=self._place,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Start a server; it and its files are gone at the end of the block."""
    programs = required_binaries()
    # Not in a test's directory, which no other user can enter.
    place = Path(tempfile.mkdtemp(prefix="flowherd-postgres-"))
    server = Postgres(programs, place)
    try:
        server.make()
        server.start()
        server.make_database()
        yield server
    finally:
        server.stop()
        shutil.rmtree(place)


def _unprivileged() -> str | None:
    """Return the user as whom root runs it; other users run it as themselves."""
    if os.geteuid() != 0:
        return None
    known = {user.pw_name for user in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


if __name__ == "__main__":
    print(binaries() or "none")
    sys.exit(binaries() is None)
