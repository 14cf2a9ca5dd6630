"""The lock for claims at backends that do not arbitrate: where it is, whom it keeps out, and how long a wait is."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from loguru import logger

from flowherd.agent import claim_lock
from flowherd.agent.claim_lock import claiming_alone, lock_files
from flowherd.errors import ClaimLost
from tests.support.unprivileged import AS_NOBODY, NOBODY, needs_root, needs_setpriv, reachable_directory
from tests.support.waiting import wait_until

ADDRESS = "http://backend.example/graphql"
_SHOW = """
import sys
from pathlib import Path
from flowherd.agent import claim_lock
claim_lock._TEMPORARY, claim_lock._RUNTIME_DIRECTORIES = Path(sys.argv[1]), Path(sys.argv[2])
print(*claim_lock.lock_files("x"), sep="\\n")
"""


def going_on() -> bool:
    return False


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The system's directories are below this one."""
    with reachable_directory() as place:
        for name in ("run", "users", "tmp"):
            (place / name).mkdir()
        (place / "tmp").chmod(0o1777)
        monkeypatch.setattr(claim_lock, "_RUN", place / "run")
        monkeypatch.setattr(claim_lock, "_RUNTIME_DIRECTORIES", place / "users")
        monkeypatch.setattr(claim_lock, "_TEMPORARY", place / "tmp")
        monkeypatch.setattr(tempfile, "tempdir", str(place / "tmp"))
        yield place


@pytest.fixture
def messages() -> Iterator[list[str]]:
    """What is logged."""
    found: list[str] = []
    sink = logger.add(lambda message: found.append(str(message)), level="INFO", format="{message}")
    yield found
    logger.remove(sink)


def claims_waiting(holder: int) -> bool:
    """Whether a descriptor other than the holder's has the file open."""
    found = [entry for entry in Path("/proc/self/fd").iterdir() if entry.name != str(holder)]
    return any(os.path.samestat(entry.stat(), os.fstat(holder)) for entry in found if entry.exists())


class TestPlace:
    @needs_root
    def test_root_has_it_in_run(self, places: Path) -> None:
        (file,) = lock_files(ADDRESS)
        assert file.parent == places / "run" / "flowherd"
        assert file.parent.stat().st_mode & 0o777 == 0o700

    @needs_root
    def test_another_users_directory_in_run_is_left_alone(self, places: Path) -> None:
        (places / "run" / "flowherd").mkdir()
        os.chown(places / "run" / "flowherd", NOBODY, NOBODY)
        assert lock_files(ADDRESS)[0].parent == places / "tmp" / "flowherd-0"

    @needs_root
    @needs_setpriv
    class TestOfAnotherUser:
        def test_it_is_in_the_runtime_directory(self, places: Path) -> None:
            assert self.shown(places, own=["xdg"], xdg="xdg") == ["xdg/flowherd"]
            assert self.shown(places, own=[f"users/{NOBODY}"]) == [f"users/{NOBODY}/flowherd"]

        def test_agents_with_and_without_the_variable_share_a_lock(self, places: Path) -> None:
            both = self.shown(places, own=["xdg", f"users/{NOBODY}"], xdg="xdg")
            assert both == [f"users/{NOBODY}/flowherd", "xdg/flowherd"]
            assert self.shown(places, own=[]) == [f"users/{NOBODY}/flowherd"]

        def test_a_runtime_directory_of_another_user_or_a_link_is_not_used(self, places: Path) -> None:
            (places / "roots").mkdir()
            (places / "link").symlink_to(places / "roots")
            for name in ("roots", "link", "missing"):
                assert self.shown(places, own=[], xdg=name) == [f"tmp/flowherd-{NOBODY}"]
            assert (places / "tmp" / f"flowherd-{NOBODY}").stat().st_mode & 0o777 == 0o700

        def test_a_planted_directory_in_tmp_is_refused(self, places: Path) -> None:
            (places / "tmp" / f"flowherd-{NOBODY}").mkdir(mode=0o777)
            with pytest.raises(AssertionError, match="belongs to user root"):
                self.shown(places, own=[])

        @staticmethod
        def shown(places: Path, own: list[str], xdg: str | None = None) -> list[str]:
            """The directories of the lock files of `nobody`, whose directories `own` are, below `places`."""
            for name in own:
                (places / name).mkdir(mode=0o700)
                os.chown(places / name, NOBODY, NOBODY)
            environment = {**os.environ, "XDG_RUNTIME_DIR": str(places / xdg) if xdg else ""}
            command = [*AS_NOBODY, sys.executable, "-c", _SHOW, str(places / "tmp"), str(places / "users")]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            return [str(Path(line).parent.relative_to(places)) for line in done.stdout.splitlines()]


class TestWait:
    def test_it_is_bounded_and_names_the_holder(self, messages: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(claim_lock, "_LOG_AFTER_S", 0.1)
        (file,) = lock_files(ADDRESS)
        fd = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        os.write(fd, b"4711\n")
        fcntl.flock(fd, fcntl.LOCK_EX)
        began_s = time.monotonic()
        with (
            pytest.raises(ClaimLost, match="process 4711 holds the claim lock"),
            claiming_alone(ADDRESS, going_on, 0.3),
        ):
            raise AssertionError("the lock was held by another")
        assert 0.3 <= time.monotonic() - began_s < 3
        assert f"Waiting to claim: process 4711 holds the claim lock {file}\n" in messages
        os.close(fd)
        with claiming_alone(ADDRESS, going_on, 0.3):
            assert file.read_text() == f"{os.getpid()}\n"

    def test_a_lock_file_that_was_removed_meanwhile_is_not_trusted(self) -> None:
        """Whoever comes later locks a new file; so does this process once it has waited for the old one."""
        (file,) = lock_files(ADDRESS)
        fd = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        with ThreadPoolExecutor() as executor:
            waiting = executor.submit(self.locked_file, file)
            wait_until(lambda: claims_waiting(fd))
            file.unlink()
            os.close(fd)
            assert waiting.result(timeout=10)

    @staticmethod
    def locked_file(file: Path) -> bool:
        """Whether the lock that is held is that of the file as it is now."""
        with claiming_alone(ADDRESS, going_on, 5.0), file.open() as now:
            try:
                fcntl.flock(now, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def test_it_ends_when_the_agent_stops(self) -> None:
        with (
            claiming_alone(ADDRESS, going_on),
            pytest.raises(ClaimLost, match="the agent is stopping"),
            claiming_alone(ADDRESS, lambda: True),
        ):
            raise AssertionError("the turn was held")

    def test_claims_at_another_backend_do_not_wait(self) -> None:
        with claiming_alone(ADDRESS, going_on), claiming_alone("http://other", going_on, 0.0):
            pass

    def test_an_agent_of_the_release_before_keeps_us_out(self, places: Path) -> None:
        name = lock_files(ADDRESS)[0].name.removeprefix("claims-")
        with (places / "tmp" / f"flowherd-claims-{os.getuid()}-{name}").open("w") as old:
            fcntl.flock(old, fcntl.LOCK_EX)
            with pytest.raises(ClaimLost, match="another agent holds"), claiming_alone(ADDRESS, going_on, 0.2):
                raise AssertionError("the old lock was held")

    @needs_root
    def test_an_old_lock_that_another_user_has_planted_keeps_nobody_out(self, places: Path) -> None:
        name = lock_files(ADDRESS)[0].name.removeprefix("claims-")
        planted = places / "tmp" / f"flowherd-claims-{os.getuid()}-{name}"
        planted.touch()
        os.chown(planted, NOBODY, NOBODY)
        with planted.open("w") as old:
            fcntl.flock(old, fcntl.LOCK_EX)
            with claiming_alone(ADDRESS, going_on, 0.2):
                pass

    def test_a_lock_that_cannot_be_made_costs_the_claim_and_not_the_run(
        self, places: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(claim_lock, "_RUN", places / "missing")
        monkeypatch.setattr(claim_lock, "_TEMPORARY", Path("/proc"))
        with pytest.raises(ClaimLost, match="not claimed"), claiming_alone(ADDRESS, going_on, 0.2):
            raise AssertionError("there is no lock")
