"""A server, an agent and a flow that attacks what is not its own; whether it succeeded is judged from outside."""

from __future__ import annotations

import base64
import ctypes
import json
import os
import re
import socket
import struct
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.client.flow_document import HowToRun, command_storage, flow_document, python_storage
from flowherd.client.runs import RunView
from flowherd.client.user_client import UserClient
from tests.hostile.attack_judge import RUNNER_CODE, Verdict, cgroup_of, cgroups, judge, traces_of
from tests.hostile.attack_stage import Bystander, Stage, Who, stage
from tests.peers.environments import Installation
from tests.support.commands import READY, CommandLine, background
from tests.support.unprivileged import set_uid_program
from tests.support.waiting import wait_until

_LIBC = ctypes.CDLL(None, use_errno=True)
_NEIGHBOUR = "import sys, time; open('secret', 'w').write(sys.argv[1]); print(sys.argv[1], flush=True); time.sleep(600)"


@dataclass
class Scene:
    """All that one user's flows can attack."""

    stage: Stage
    command: CommandLine
    url: str
    token: str
    agent_pid: int
    server_pid: int
    bystander: Bystander
    secret: str
    work: Path
    places: Mapping[str, Any]
    #: Id of the run beside the attackers.
    neighbour: str = ""

    @property
    def state_dir(self) -> Path:
        return self.command.home / "agents" / "attacked"

    def client(self) -> UserClient:
        return UserClient(GraphQLTransport(self.url, self.token))

    def start(
        self,
        name: str,
        storage: Mapping[str, Any],
        isolation: Mapping[str, Any],
        /,
        working_dir: str | None = None,
        config: Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> str:
        """Register a flow, with `config` in its run config, and start it; return the run's id."""
        place = working_dir or str(self.work)
        how = HowToRun(labels=[socket.gethostname()], working_dir=place, user=self.stage.who.user)
        return self.start_document(flow_document(name, storage, how, parameters, None), isolation, config, **parameters)

    def start_document(
        self,
        document: dict[str, Any],
        isolation: Mapping[str, Any],
        config: Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> str:
        """Register a flow by its document, with `config` in its run config, and start it; return the run's id."""
        if isolation:
            document["run_config"]["isolation"] = dict(isolation)
        document["run_config"].update(config or {})
        client = self.client()
        try:
            flow = client.flows.register(client.flows.ensure_project("default"), document)
            return client.runs.create(flow.id, parameters=parameters)
        finally:
            client.close()

    def started(self, run_id: str) -> dict[str, Any]:
        """Return what `started` of that run says, once it is there."""
        path = self.state_dir / "runs" / run_id / "started"
        wait_until(path.exists, what=lambda: self.describe(run_id))
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def end_of(self, run_id: str) -> RunView:
        """Wait for the end of a run; return it as the server has it."""
        client = self.client()
        try:

            def ended() -> RunView | None:
                run = client.runs.get(run_id)
                return run if run is not None and run.finished else None

            return wait_until(ended, timeout_s=60, what=lambda: self.describe(run_id))
        finally:
            client.close()

    def log(self, run_id: str) -> list[str]:
        """Return the messages of a run's log."""
        client = self.client()
        try:
            return [line.message for line in client.log(run_id).last_lines(1000)]
        finally:
            client.close()

    def describe(self, run_id: str) -> str:
        """Return what is known of a run, for a failure."""
        place = self.state_dir / "runs" / run_id
        names = [path.name for path in place.iterdir()] if place.exists() else []
        return "\n".join([str(names), *self.log(run_id)])

    @contextmanager
    def with_neighbour(self) -> Iterator[Scene]:
        """Let a run go beside the attackers, whose journal and parameters have the secret."""
        storage = command_storage([sys.executable, "-c", _NEIGHBOUR, self.secret])
        self.neighbour = run_id = self.start("neighbour", storage, {}, config={"working_dir": None}, note=self.secret)
        self.started(run_id)
        journal = self.state_dir / "runs" / run_id / "journal"
        try:
            wait_until(lambda: self.secret.encode() in journal.read_bytes(), what=lambda: self.describe(run_id))
            yield self
        finally:
            self.cancel(run_id)

    def cancel(self, run_id: str) -> None:
        """Cancel a run, and wait until nothing of it is left."""
        client = self.client()
        client.runs.cancel(run_id)
        client.close()
        wait_until(lambda: not (self.state_dir / "runs" / run_id).exists(), what=lambda: self.describe(run_id))

    def attack(
        self, isolation: Mapping[str, Any], *, in_fork: bool, prefect: dict[str, Any] | None = None
    ) -> dict[str, Verdict]:
        """Let a flow attack, in the fork with a working directory of its own; return what came of each attack.

        `prefect` is the document of a flow of Prefect's, which attacks instead.
        A directory is hidden from all that are kept apart, and the one that is shared with this test can be written.
        """
        if isolation:
            isolation = {**isolation, "hide": [self.places["hidden"]], "write": [str(self.work)]}
        config: Mapping[str, Any] = {"working_dir": None} if in_fork else {}
        program = self.stage.place / "programs" / "flow.py"
        if in_fork:
            storage = python_storage(f"{program}:main", Path("/"))
        else:
            storage = command_storage([sys.executable, str(program), str(self.work)])
        if prefect is None:
            run_id = self.start(f"attacker {in_fork}", storage, isolation, config=config, place=str(self.work))
        else:
            run_id = self.start_document(prefect, isolation, place=str(self.work))
        started = self.started(run_id)
        wait_until((self.work / f"{run_id}.ready").exists, what=lambda: self.describe(run_id))
        self.stage.mount_later()
        before = self._prepare()
        targets = self._targets(run_id, started) | {"isolated": bool(isolation), "now": before}
        _write(self.work / f"{run_id}.targets", targets)
        results = self.work / f"{run_id}.results"
        wait_until(results.exists, timeout_s=90, what=lambda: self.describe(run_id))
        found = json.loads(results.read_text())
        traces = traces_of(self, run_id, before)
        verdicts = {name: judge(self, name, one, targets, traces) for name, one in found.items()}
        self._clean(run_id)
        _write(self.work / f"{run_id}.done", {})
        wait_until(lambda: not (self.state_dir / "runs" / run_id).exists(), what=lambda: self.describe(run_id))
        return verdicts

    def _prepare(self) -> dict[str, Any]:
        """Make anew what attacks change; return what the bystander looks like."""
        home = self.command.home
        (home / "to-rename").write_text("")
        (home / "to-change").write_text("")
        (home / "to-change").chmod(0o600)
        (home / "to-date").write_text("")
        uid = self.stage.who.agent_uid
        for name in ("to-rename", "to-change", "to-date"):
            os.chown(home / name, uid, uid)
        return self.bystander.look()

    def _targets(self, run_id: str, started: Mapping[str, Any]) -> dict[str, Any]:
        runs, neighbour = self.state_dir / "runs", self.neighbour
        spec = runs / neighbour / "spec.json"
        other = json.loads((runs / neighbour / "started").read_text())["flow_pid"]
        parent = Path(f"/proc/{started['pid']}/stat").read_text().rpartition(")")[2].split()[1]
        return {
            **self.bystander.where,
            **self.places,
            "home": str(self.command.home),
            "state_dir": str(self.state_dir),
            "spec": str(spec),
            "spec_handle": _handle(spec),
            "neighbour_dir": str(runs / neighbour),
            "neighbour": other,
            "neighbour_work": str(Path(f"/proc/{other}/cwd").readlink()),
            "own_id": run_id,
            "own_dir": str(runs / run_id),
            "work": str(self.work),
            "runner": started["pid"],
            "agent": self.agent_pid,
            "fork_server": int(parent),
            "server": self.server_pid,
            "url": self.url,
            "token_start": self.token[:8],
            "runner_code": str(RUNNER_CODE),
            "cgroup": cgroup_of(self.agent_pid),
        }

    def _clean(self, run_id: str) -> None:
        for path in (*cgroups(f"attack-{run_id}"), *cgroups(f"mounted-{run_id}")):
            path.rmdir()
        for path in RUNNER_CODE.glob("planted_*"):
            path.unlink()
        (self.command.home / "renamed").unlink(missing_ok=True)


@contextmanager
def scene(who: Who, runtime: Installation | None = None) -> Iterator[Scene]:
    """Set all up, and end it. `runtime` is the Prefect of flows of Prefect's."""
    reachable = [] if runtime is None else [runtime.directory, runtime.python.resolve().parents[1]]
    secret = f"secret-{uuid.uuid4().hex}"
    with ExitStack() as undo:
        where = undo.enter_context(stage(who, reachable))
        place = where.place
        work = where.directory("work", who.flow_uid)
        user_home = where.directory("user-home", who.flow_uid, 0o711)
        hidden = where.directory("hidden", who.flow_uid)
        (hidden / "secret").write_text(secret)
        os.chown(hidden / "secret", who.flow_uid, who.flow_uid)
        (place / "for-root").write_text("only root knows")
        (place / "for-root").chmod(0o600)
        outside = Path("/tmp") / f"of-others-{secret[-8:]}"
        outside.mkdir()
        os.chown(outside, who.flow_uid, who.flow_uid)
        undo.callback(_remove, outside)
        shm = f"/dev/shm/of-others-{secret[-8:]}"
        undo.callback(lambda: Path(shm).unlink(missing_ok=True))
        places = {
            "user_home": str(user_home),
            "hidden": str(hidden),
            "elsewhere": "/media",
            "later_mount": str(where.later_mount),
            "second_proc": str(where.second_proc),
            "tmp_file": str(outside / "file"),
            "shm_file": shm,
            "abstract": f"flowherd-{secret[-8:]}",
            "like_sudo": str(set_uid_program(place)),
            "for_root": str(place / "for-root"),
            "block_device": _block_device(),
            "sockets": {
                "tmp": str(outside / "socket"),
                "home": str(user_home / ".gnupg" / "S.gpg-agent"),
                "docker": "/run/docker.sock",
                "bus": f"/run/user/{who.flow_uid}/bus",
                "system_bus": "/run/dbus/system_bus_socket",
                "systemd": "/run/systemd/private",
                "screen": "/run/screen/S-user",
            },
        }
        _open_run(where, who.flow_uid)
        bystander = Bystander(where, secret, places)
        undo.callback(bystander.close)
        options = [] if runtime is None else ["--runtime", f"prefect={runtime.python}"]
        yield undo.enter_context(_flowherd(where, bystander, secret, work, places, options))


@contextmanager
def _flowherd(
    where: Stage, bystander: Bystander, secret: str, work: Path, places: Mapping[str, Any], options: list[str]
) -> Iterator[Scene]:
    who = where.who
    home = where.directory("flowherd", who.agent_uid)
    # A cgroup of the run's own would be all that it reaches of them.
    environment = {"HOME": str(where.directory("agents-home", who.agent_uid)), "FLOWHERD__AGENT__CGROUP": "off"}
    command = CommandLine(home, environment, where.as_user(who.agent_uid))
    with background(command, "server", "--new-token", "--port", "0", until="ready at") as server:
        found = re.search(r"ready at (\S+)", server.text())
        assert found
        with background(command, "start", "-n", "attacked", *options, until=READY) as agent:
            token = (home / "server.token").read_text().strip()
            pids = agent.process.pid, server.process.pid
            found_all = Scene(where, command, found[1], token, *pids, bystander, secret, work, places)
            with found_all.with_neighbour():
                yield found_all


def _open_run(where: Stage, uid: int) -> None:
    """Let the user have sockets in the scene's /run, as one of the groups that may use these services."""
    run = Path(f"/proc/{where.holder.pid}/root/run")
    own = run / "user" / str(uid)
    own.mkdir()
    for path in (run, own, run / "dbus", run / "systemd", run / "screen"):
        os.chown(path, uid, uid)


def _write(path: Path, value: object) -> None:
    new = path.with_suffix(".writing")
    new.write_text(json.dumps(value))
    new.chmod(0o644)
    new.rename(path)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _remove(place: Path) -> None:
    for path in place.iterdir():
        path.unlink()
    place.rmdir()


def _handle(path: Path) -> tuple[int, str]:
    """Return type and bytes of a file's handle, by which it can be opened without its path."""
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 8 + 128)
    mount = ctypes.c_int()
    if _LIBC.name_to_handle_at(-100, os.fsencode(path), handle, ctypes.byref(mount), 0) != 0:
        return 0, ""
    size, kind = struct.unpack_from("Ii", handle.raw)
    return kind, base64.b64encode(handle.raw[8 : 8 + size]).decode()


def _block_device() -> int:
    """Return the number of a block device that root can open here, 0 without one: a loop device without a file.

    It stands for the disk below flowherd's home, which no test touches.
    """
    for path in sorted(Path("/dev").glob("loop[0-9]*")):
        with suppress(OSError):
            os.close(os.open(path, os.O_RDONLY))
            return path.stat().st_rdev
    return 0
