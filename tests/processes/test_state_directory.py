"""The state directory: one agent at a time, removed files made again, foreign directories refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowherd.backends.discovery import Api, running_server
from flowherd.cli.agent.lock_holder import agent_pid, missing_files
from flowherd.config import load_settings
from flowherd.errors import ConfigurationError, StateDirectoryBusy
from flowherd.host.store.state_directory import StateDirectory
from flowherd.private_directory import make_private_directory
from flowherd_server.server_files import AddressFile, locked_directory
from tests.support.http_server import Answer, http_server
from tests.support.unprivileged import AS_NOBODY, NOBODY, needs_root, needs_setpriv, reachable_directory


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    return StateDirectory(tmp_path / "agents" / "one")


#: What uses a directory, by the directory's name.
USES = {
    "state": lambda path: StateDirectory(path),
    "data": lambda path: locked_directory(path).__enter__(),
    "home of a server": lambda path: AddressFile(path, "http://127.0.0.1:1", path).write(),
    "home": lambda path: load_settings({}, environ={"FLOWHERD_HOME": str(path)}),
    "home with a server": lambda path: running_server(path / "server.json"),
}


class TestRemovedFiles:
    @pytest.mark.parametrize("names", [["agent.lock"], ["agent.json"], ["runs"], ["agent.lock", "agent.json", "runs"]])
    def test_they_are_made_again_and_named(self, state: StateDirectory, names: list[str]) -> None:
        identity = state.identity
        for name in names:
            path = state.path / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        assert sorted(state.repair()) == sorted(names)
        assert state.repair() == []
        assert set(missing_files(state.path)) <= {"control.sock"}
        assert agent_pid(state.path) == os.getpid()
        state.close()
        assert StateDirectory(state.path).identity == identity

    def test_the_whole_directory_is_made_again(self, state: StateDirectory) -> None:
        shutil.rmtree(state.path)
        assert str(state.path) in state.repair()
        assert state.path.stat().st_mode & 0o777 == 0o700
        with pytest.raises(StateDirectoryBusy):
            StateDirectory(state.path)

    def test_a_second_agent_is_kept_out_without_the_lock_file(self, state: StateDirectory) -> None:
        (state.path / "agent.lock").unlink()
        assert agent_pid(state.path) == os.getpid()
        with pytest.raises(StateDirectoryBusy, match=r"whose agent\.lock was removed"):
            StateDirectory(state.path)
        # What the second one made is in the way for a moment only.
        assert state.repair() == ["agent.lock"]

    def test_a_directory_that_another_agent_has_made_again_is_not_taken_from_it(self, state: StateDirectory) -> None:
        shutil.rmtree(state.path)
        other = StateDirectory(state.path)
        with pytest.raises(StateDirectoryBusy):
            state.repair()
        assert other.repair() == []


#: An agent's process, of which no other of its user can read the descriptors: opens the state directory and waits.
_HOLDER = """
import sys
from pathlib import Path
from flowherd.host.store.state_directory import StateDirectory
from flowherd.inspection import closed_to_inspection
with closed_to_inspection():
    state = StateDirectory(Path(sys.argv[1]))
    print("open", flush=True)
    sys.stdin.read()
"""


@needs_root
@needs_setpriv
def test_a_removed_directory_is_not_taken_from_an_agent_that_is_an_ordinary_user() -> None:
    with reachable_directory() as place:
        os.chown(place, NOBODY, NOBODY)
        command = [*AS_NOBODY, sys.executable, "-c", _HOLDER, str(place / "state")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"open\n"
            shutil.rmtree(place / "state")
            second = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            assert f"another agent (pid {holder.pid}; {place / 'state'} was removed" in second.stderr
            holder.communicate(b"")
        after = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert (after.returncode, after.stdout) == (0, "open\n"), after.stderr


class TestForeignDirectories:
    """What another user owns, or could have prepared, is refused with the reason."""

    @pytest.fixture(params=USES, ids=lambda name: name)
    def use(self, request: pytest.FixtureRequest) -> Callable[[Path], object]:
        return USES[request.param]

    def test_a_link_is_refused(self, use: Callable[[Path], object], tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real")
        with pytest.raises(ConfigurationError, match="is a link"):
            use(tmp_path / "link")
        assert list((tmp_path / "real").iterdir()) == []

    @needs_root
    def test_another_users_is_refused(self, use: Callable[[Path], object], tmp_path: Path) -> None:
        (tmp_path / "theirs").mkdir(mode=0o700)
        os.chown(tmp_path / "theirs", NOBODY, NOBODY)
        with pytest.raises(ConfigurationError, match="belongs to user nobody, and this is user root"):
            use(tmp_path / "theirs")

    @pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702])
    def test_one_that_others_can_write_to_is_refused(
        self, use: Callable[[Path], object], tmp_path: Path, mode: int
    ) -> None:
        (tmp_path / "open").mkdir()
        (tmp_path / "open").chmod(mode)
        with pytest.raises(ConfigurationError, match=r"can be written by other users \(mode"):
            use(tmp_path / "open")

    def test_an_ordinary_one_is_used(self, use: Callable[[Path], object], tmp_path: Path) -> None:
        (tmp_path / "own").mkdir(mode=0o755)
        use(tmp_path / "own")

    def test_new_ones_and_their_parents_are_closed_whatever_the_umask_is(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            make_private_directory(tmp_path / "a" / "b", "directory")
        finally:
            os.umask(before)
        assert [path.stat().st_mode & 0o777 for path in (tmp_path / "a", tmp_path / "a" / "b")] == [0o700, 0o700]


class TestPlantedServerFile:
    """server.json names the address that tokens are sent to."""

    @pytest.fixture
    def healthy(self, tmp_path: Path) -> Callable[..., Api | None]:
        """Looks for the server that a server.json of this content names, which answers as healthy."""

        def look(pid: int = os.getpid(), change: Callable[[Path], None] = lambda path: None) -> Api | None:
            home = tmp_path / "home"
            home.mkdir(mode=0o700)
            with http_server(lambda request: Answer()) as url:
                (home / "server.json").write_text(f'{{"url": "{url}", "pid": {pid}}}')
                change(home / "server.json")
                return running_server(home / "server.json")

        return look

    def test_our_own_is_found(self, healthy: Callable[..., Api | None]) -> None:
        assert healthy() is not None

    @needs_root
    def test_another_users_is_refused(self, healthy: Callable[..., Api | None]) -> None:
        with pytest.raises(ConfigurationError, match=r"belongs to user nobody.*no token is sent"):
            healthy(change=lambda path: os.chown(path, NOBODY, NOBODY))

    def test_one_that_others_can_write_to_is_refused(self, healthy: Callable[..., Api | None]) -> None:
        with pytest.raises(ConfigurationError, match="can be written by other users"):
            healthy(change=lambda path: path.chmod(0o666))

    def test_a_link_is_refused(self, healthy: Callable[..., Api | None], tmp_path: Path) -> None:
        def link(path: Path) -> None:
            path.rename(tmp_path / "elsewhere")
            path.symlink_to(tmp_path / "elsewhere")

        with pytest.raises(ConfigurationError, match="is a link"):
            healthy(change=link)

    def test_a_pipe_is_refused_and_not_waited_for(self, healthy: Callable[..., Api | None]) -> None:
        def pipe(path: Path) -> None:
            path.unlink()
            os.mkfifo(path, 0o600)

        with pytest.raises(ConfigurationError, match="is not a regular file"):
            healthy(change=pipe)

    @needs_root
    def test_a_pid_that_is_another_users_by_now_is_no_server(
        self, healthy: Callable[..., Api | None], nobodys_pid: int
    ) -> None:
        assert healthy(pid=nobodys_pid) is None

    @pytest.fixture
    def nobodys_pid(self) -> Iterator[int]:
        process = subprocess.Popen(["sleep", "300"], user=NOBODY, group=NOBODY)
        yield process.pid
        process.kill()
        process.wait()


def test_a_closed_directory_is_left_to_the_next_agent(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "state")
    state.close()
    shutil.rmtree(state.path)
    assert state.repair() == []
    assert not state.path.exists()
