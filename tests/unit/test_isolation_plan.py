"""What keeps a run apart, as its flow and its agent ask for it, and what a flow must not have done outside of it."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

import pytest

from flowherd.agent.claim_lock import lock_directories
from flowherd.cli.here.child import isolation_problems
from flowherd.cli.here.kept_definitions import Definition
from flowherd.config import load_settings
from flowherd.engines.base import AgentDefaults
from flowherd.engines.plan import plan, runtime_of
from flowherd.engines.runtimes import RuntimeRule
from flowherd.errors import ConfigurationError, DeployError, UnsupportedStorage
from flowherd.host.isolation_floor import check_floor, floor_of
from flowherd.isolation.levels import IsolationRequest, merged, read_request, request_in_words, requested_isolation
from flowherd.states import RunState
from flowherd.values import EngineAccess, Flow, FlowRun, Runtime
from flowherd_runner.contract.isolation import Isolation
from flowherd_runner.contract.spec import RunSpec, parse_spec, spec_to_json

COMMAND = {"type": "Command", "argv": ["true"]}
PYTHON = {"type": "Python", "ref": "module:function"}
PRIVATE = {"isolation": "private"}


def planned(
    config: dict[str, Any], floor: Isolation | None = None, storage: dict[str, Any] = PYTHON, **defaults: Any
) -> RunSpec:
    flow = Flow(id="f", name="flow", storage=storage, run_config=config, core_version="1.4.1")
    run = FlowRun(id=str(uuid.uuid4()), name="run", version=1, state=RunState.SCHEDULED, serialized_state={}, flow=flow)
    return plan(run, AgentDefaults(isolation=floor or Isolation(), **defaults), "claim")


class TestLevels:
    @pytest.mark.parametrize(
        ("floor", "asked", "level"),
        [
            ("none", None, "none"),
            ("none", "sealed", "sealed"),
            ("private", "sealed", "sealed"),
            ("sealed", "private", "sealed"),
            ("private", "none", "private"),
        ],
    )
    def test_the_higher_level_counts(self, floor: str, asked: str | None, level: str) -> None:
        assert merged(Isolation(level=floor), read_request(asked)).level == level

    def test_a_flow_cannot_get_the_network_back_or_be_started_with_less(self) -> None:
        floor = Isolation(level="private", network="none", if_missing="refuse")
        found = merged(floor, IsolationRequest(level="private", network="host", if_missing="weaker"))
        assert (found.network, found.if_missing) == ("none", "refuse")
        weaker = merged(floor._replace(if_missing="weaker"), IsolationRequest())
        assert weaker.if_missing == "weaker"
        assert merged(floor._replace(if_missing="weaker"), IsolationRequest(if_missing="refuse")).if_missing == "refuse"

    def test_no_network_alone_means_private(self) -> None:
        assert merged(Isolation(network="none"), IsolationRequest()).level == "private"
        assert read_request({"network": "none"}).level == "private"

    def test_what_is_hidden_is_what_either_hides(self, tmp_path: Path) -> None:
        floor = Isolation(level="private", hide=(f"{tmp_path}/a",))
        assert merged(floor, IsolationRequest(hide=(f"{tmp_path}/b",))).hide == (f"{tmp_path}/a", f"{tmp_path}/b")

    def test_a_floor_of_sealed_limits_what_a_flow_may_write(self, tmp_path: Path) -> None:
        floor = Isolation(level="sealed", write=(f"{tmp_path}/out",))
        inside = IsolationRequest(write=(f"{tmp_path}/out/x",))
        assert merged(floor, inside).write == (f"{tmp_path}/out", f"{tmp_path}/out/x")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "link").symlink_to("/etc")
        for path in (f"{tmp_path}/outside", f"{tmp_path}/out/../other", f"{tmp_path}/out/link"):
            with pytest.raises(ValueError, match=r"lets sealed runs write only .*/out"):
                merged(floor, IsolationRequest(write=(path,)))
        without_floor = Isolation(level="private", write=floor.write)
        assert (
            f"{tmp_path}/outside"
            in merged(without_floor, IsolationRequest("sealed", write=(f"{tmp_path}/outside",))).write
        )

    @pytest.mark.parametrize(
        "value",
        [
            *("sealde", 5, ["sealed"], {"levle": "sealed"}, {"network": "lan"}),
            *({"write": "/a"}, {"hide": ["a"]}, {"write": ["/a\0b"]}),
            *({"level": "none", "network": "none"}, {"level": "none", "hide": ["/a"]}),
        ],
    )
    def test_what_is_not_understood_is_refused_and_never_taken_for_none(self, value: object) -> None:
        with pytest.raises(ValueError, match=r"isolation|level"):
            read_request(value)
        with pytest.raises(UnsupportedStorage, match="cannot be kept apart"):
            planned({"isolation": value})

    def test_the_run_configs_of_prefect_ask_by_variables(self) -> None:
        env = {"FLOWHERD__RUNS__ISOLATION__LEVEL": "sealed", "FLOWHERD__RUNS__ISOLATION__WRITE": "/a, /b"}
        assert requested_isolation({"env": env}) == IsolationRequest("sealed", write=("/a", "/b"))
        assert requested_isolation({"env": env, "isolation": "private"}) == IsolationRequest(
            "private", write=("/a", "/b")
        )
        assert planned({"env": env}, Isolation(level="private")).isolation.level == "sealed"
        for wrong in ({"FLOWHERD__RUNS__ISOLATION__LEVEL": "seald"}, {"FLOWHERD__RUNS__ISOLATION__HIDE": "[/a"}):
            with pytest.raises(UnsupportedStorage, match="cannot be kept apart"):
                planned({"env": wrong})

    def test_a_wish_can_be_read_back_and_said(self) -> None:
        request = IsolationRequest("sealed", "none", "weaker", ("/out",), ("/keys",))
        assert read_request(request.as_json()) == request
        assert (
            request_in_words(request) == "sealed, network none, weaker if anything is missing, writes /out, hides /keys"
        )
        assert (read_request(None), request_in_words(IsolationRequest())) == (IsolationRequest(), "")


class TestSpec:
    def test_without_a_level_nothing_is_different(self) -> None:
        assert planned({}).isolation == Isolation()
        assert planned({}, Isolation(covered=("/home/x/.flowherd",))).isolation == Isolation()

    def test_the_spec_says_what_is_covered_and_kept(self, tmp_path: Path) -> None:
        code = tmp_path / "flow.py"
        code.touch()
        floor = Isolation(level="private", covered=(f"{tmp_path}/home",))
        storage = {"type": "Python", "ref": f"{code}:main"}
        found = planned({}, floor, storage, import_paths=[f"{tmp_path}/lib"])
        assert found.isolation.floor == "private"
        assert found.isolation.covered == (f"{tmp_path}/home",)
        assert {str(code), str(tmp_path), f"{tmp_path}/lib", str(Path(sys.prefix).resolve())} <= set(
            found.isolation.keep
        )
        assert parse_spec(json.loads(json.dumps(spec_to_json(found)))).isolation == found.isolation

    def test_the_agents_temporary_directory_is_not_the_runs(self) -> None:
        found = planned({**PRIVATE, "env": {"TMP": "/mine"}})
        assert {"TMPDIR", "TEMP", "XDG_RUNTIME_DIR"} <= set(found.env_removed)
        assert found.env == {"TMP": "/mine"} and "TMP" not in found.env_removed

    @pytest.mark.parametrize("place", ["home", "home/agents/other/runs/1/work", "link/x"])
    def test_a_working_directory_in_flowherds_home_is_refused(self, tmp_path: Path, place: str) -> None:
        (tmp_path / "home").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "home")
        with pytest.raises(UnsupportedStorage, match=r"its working directory, .*/home, (which|is a place that) such"):
            planned({**PRIVATE, "working_dir": f"{tmp_path}/{place}"}, Isolation(covered=(f"{tmp_path}/home",)))

    def test_an_interpreter_in_flowherds_home_is_refused_although_it_is_a_link(self, tmp_path: Path) -> None:
        program = tmp_path / "venv" / "bin" / "python"
        program.parent.mkdir(parents=True)
        program.symlink_to(sys.executable)
        with pytest.raises(UnsupportedStorage, match=r"its interpreter, .* is in"):
            planned({**PRIVATE, "interpreter": str(program)}, Isolation(covered=(str(tmp_path),)))

    def test_a_flow_cannot_have_shown_what_is_hidden(self, tmp_path: Path) -> None:
        floor = Isolation(level="private", hide=(str(tmp_path),))
        script = tmp_path / "script.sh"
        script.touch()
        with pytest.raises(UnsupportedStorage, match=r"its working directory, .* which is hidden"):
            planned({"working_dir": f"{tmp_path}/x"}, floor)
        with pytest.raises(UnsupportedStorage, match=r"its code, .*script\.sh.* which is hidden"):
            planned({}, floor, {"type": "Command", "argv": ["bash", str(script)]})

    def test_of_what_a_flow_names_only_code_in_tmp_is_kept(self) -> None:
        paths = {"PYTHONPATH": "/tmp/lib:/tmp:/run/user/0:/srv/lib"}
        kept = planned({**PRIVATE, "env": paths}).isolation.keep
        assert "/tmp/lib" in kept
        assert not {"/tmp", "/run/user/0", "/srv/lib"} & set(kept)
        # Not what the agent hides, with which /tmp of the run's own would have shown it nothing.
        hidden = Isolation(level="private", hide=("/tmp/lib",))
        kept = planned({"env": {"PYTHONPATH": "/tmp/lib:/tmp/lib/a:/tmp/library"}}, hidden, COMMAND).isolation.keep
        assert [path for path in kept if path.startswith("/tmp/lib")] == ["/tmp/library"]

    def test_the_files_in_which_prefects_local_storage_has_a_flow_are_kept_in_tmp(self) -> None:
        access = EngineAccess(api="http://127.0.0.1:4200", endpoint="http://127.0.0.1:4200/graphql")
        with tempfile.TemporaryDirectory(dir="/tmp") as directory, socket.socket(socket.AF_UNIX) as listener:
            stored, script, elsewhere = Path(directory, "stored"), Path(directory, "flow.py"), Path(directory, "bucket")
            for path in (stored, script, elsewhere):
                path.touch()
            listener.bind(f"{directory}/socket")
            flows = {
                "one": str(stored),
                "two": f"{directory}/socket",
                "three": "a.module",
                "four": None,
                "five": "/tmp",
            }
            storage = {"type": "Local", "directory": directory, "path": str(script), "flows": flows}
            kept = planned(PRIVATE, storage=storage, access=access).isolation.keep
            assert [path for path in kept if path.startswith("/tmp")] == [str(script), str(stored)]
            remote = {"type": "S3", "flows": {"one": str(elsewhere)}}
            assert str(elsewhere) not in planned(PRIVATE, storage=remote, access=access).isolation.keep
            hidden = Isolation(level="private", hide=(directory,))
            with pytest.raises(UnsupportedStorage, match=r"its code, .*flow\.py.* which is hidden"):
                planned({}, hidden, storage, access=access)

    def test_a_flow_does_not_get_other_programs_sockets_in_tmp_at_an_agent_with_a_level(self) -> None:
        floor = Isolation(level="private")
        with tempfile.TemporaryDirectory(dir="/tmp") as directory, socket.socket(socket.AF_UNIX) as listener:
            assert planned({"working_dir": directory}, floor).working_dir == directory
            listener.bind(f"{directory}/default")
            with pytest.raises(UnsupportedStorage, match="has default in it, a socket of another program"):
                planned({"working_dir": directory}, floor)
            with pytest.raises(UnsupportedStorage, match="has default in it, a socket of another program"):
                planned({"isolation": {"write": [directory]}}, floor)
            assert directory not in planned({"env": {"PYTHONPATH": directory}}, floor).isolation.keep
            # Its own choice where there is no floor.
            assert planned({**PRIVATE, "working_dir": directory}).working_dir == directory

    def test_a_run_says_that_its_agent_does_not_let_it_change_its_working_directory(self, tmp_path: Path) -> None:
        config = {"working_dir": str(tmp_path)}
        sealed = Isolation(level="sealed")
        assert str(tmp_path) in planned(config, sealed).agent.warnings[0]
        assert not planned(config, sealed._replace(write=(str(tmp_path),))).agent.warnings
        assert not planned({**config, "isolation": "sealed"}).agent.warnings

    def test_a_sealed_run_does_not_get_the_agents_own_directory(self, tmp_path: Path) -> None:
        access = EngineAccess(api="http://127.0.0.1:4200", endpoint="http://127.0.0.1:4200/graphql")
        storage = {"type": "Local"}
        given: dict[str, Any] = {"storage": storage, "access": access, "started_in": str(tmp_path)}
        assert planned(PRIVATE, **given).working_dir == str(tmp_path)
        assert planned({"isolation": "sealed"}, **given).working_dir is None
        assert planned(PRIVATE, Isolation(covered=(str(tmp_path),)), **given).working_dir is None
        assert planned({"isolation": "sealed", "working_dir": "/srv"}, **given).working_dir == "/srv"


def rule(interpreter: str, **more: Any) -> RuntimeRule:
    return RuntimeRule(name="other", interpreter=interpreter, flows=("never",), **more)


def test_registering_a_flow_finds_what_its_agent_would_refuse(tmp_path: Path) -> None:
    loaded = load_settings(environ={"HOME": str(tmp_path)})
    config = {"isolation": "private", "secrets": {"S": f"file:{loaded.paths.token_file}"}}
    (problem,) = isolation_problems(Definition(name="f", storage=COMMAND, run_config=config), loaded)
    assert "the secret S would be read from" in problem and str(loaded.paths.home) in problem
    (misspelt,) = isolation_problems(Definition(name="f", storage=COMMAND, run_config={"isolation": "seald"}), loaded)
    assert "one of none, private, sealed" in misspelt
    home = str(loaded.paths.home)
    for directory, words in ((home, f"{home}, is a place that such"), (f"{home}/x", f"is in {home}, which such")):
        config_of_place = {"isolation": "private", "working_dir": directory}
        (unseen,) = isolation_problems(Definition(name="f", storage=COMMAND, run_config=config_of_place), loaded)
        assert words in unseen
    open_to_all = {**config, "isolation": None}
    assert isolation_problems(Definition(name="f", storage=COMMAND, run_config=open_to_all), loaded) == []


class TestFloor:
    def test_flowherds_own_places_are_covered_wherever_they_are(self, tmp_path: Path) -> None:
        token, webhook = tmp_path / "a-token", tmp_path / "webhook"
        token.write_text("s3cret")
        token.chmod(0o600)
        environ = {
            "HOME": str(tmp_path),
            "FLOWHERD_HOME": f"{tmp_path}/home",
            "FLOWHERD__AGENT__STATE_DIR": f"{tmp_path}/state",
            "FLOWHERD__SERVER__DATA_DIR": f"{tmp_path}/data",
            "FLOWHERD__CLOUD__AGENT__AUTH_TOKEN_FILE": str(token),
            "FLOWHERD__RUNS__USERS_WORK_DIR": f"{tmp_path}/work",
            "FLOWHERD__NOTIFY__CHANNELS": json.dumps([{"name": "chat", "webhook": f"file:{webhook}"}]),
            "SUPERVISOR_SERVER_URL": f"unix://{tmp_path}/supervisor.sock",
            "XDG_RUNTIME_DIR": f"{tmp_path}/run",
        }
        loaded = load_settings(environ=environ)
        covered = floor_of(loaded.settings, loaded, environ).covered
        assert {f"{tmp_path}/{name}" for name in ("home", "state", "data", "work", "supervisor.sock")} <= set(covered)
        assert {str(token), str(webhook)} <= set(covered)
        # What each claim of this user's agents locks.
        locks = {str(path) for path in lock_directories(environ)}
        assert locks <= set(covered) and f"/tmp/flowherd-{os.geteuid()}" in locks
        assert ("/run/flowherd" if os.geteuid() == 0 else f"{tmp_path}/run/flowherd") in locks

    def test_a_file_that_a_link_names_is_covered_and_so_is_what_the_link_leads_to_later(self, tmp_path: Path) -> None:
        """As Kubernetes mounts secrets: the link leads to another directory when they change, and no agent starts."""
        (tmp_path / "first").mkdir()
        (tmp_path / "first" / "token").write_text("t")
        (tmp_path / "first" / "token").chmod(0o600)
        (tmp_path / "now").symlink_to("first")
        environ = {"HOME": str(tmp_path), "FLOWHERD__CLOUD__AGENT__AUTH_TOKEN_FILE": f"{tmp_path}/now/token"}
        loaded = load_settings(environ=environ)
        covered = floor_of(loaded.settings, loaded, environ).covered
        assert {f"{tmp_path}/first/token", f"{tmp_path}/now/token"} <= set(covered)

    def test_the_settings_are_the_floor(self, tmp_path: Path) -> None:
        given = {"LEVEL": "sealed", "NETWORK": "none", "IF_MISSING": "weaker", "WRITE": "/a,~/b", "HIDE": "/c"}
        environ = {f"FLOWHERD__RUNS__ISOLATION__{name}": value for name, value in given.items()}
        loaded = load_settings(environ={"HOME": str(tmp_path), **environ})
        found = floor_of(loaded.settings, loaded, {})._replace(covered=())
        assert found == Isolation("sealed", "none", "weaker", ("/a", "~/b"), ("/c",))
        for name in given:
            with pytest.raises(ConfigurationError, match=name):
                load_settings(environ={"HOME": str(tmp_path), f"FLOWHERD__RUNS__ISOLATION__{name}": "much"})

    def test_a_run_of_an_earlier_agent_with_less_is_not_started(self) -> None:
        private = Isolation(level="private")
        for planned_with, floor in ((Isolation(), private), (private, private._replace(network="none"))):
            with pytest.raises(DeployError, match="run it again"):
                check_floor(planned_with, floor)
        check_floor(private, Isolation())
        check_floor(Isolation(level="sealed", network="none"), private)


class TestOutside:
    def test_an_interpreter_of_the_flows_own_is_refused(self) -> None:
        theirs = {**PRIVATE, "interpreter": "/home/me/venv/bin/python3"}
        for config in (theirs, {**PRIVATE, "interpreter": "python3"}):
            with pytest.raises(UnsupportedStorage, match="--runtime NAME="):
                planned(config)
        known = planned(theirs, runtimes=[rule("/home/me/venv/bin/python")])
        assert known.agent.interpreter == "/home/me/venv/bin/python3"
        with pytest.raises(UnsupportedStorage, match="--runtime NAME="):
            planned({**PRIVATE, "interpreter": "/home/me/venv/bin/evil"}, runtimes=[rule("/home/me/venv/bin/python")])
        # A command only gets the environment of it.
        assert planned(theirs, storage=COMMAND).runtime == "/home/me/venv/bin/python3"

    def test_a_module_that_only_the_flow_names_is_not_preloaded_outside(self) -> None:
        found = planned({**PRIVATE, "preload": ["json", "evil"]}, preload=["json"])
        assert runtime_of(found) == Runtime(sys.executable, ("json",))
        assert any("Not preloaded" in warning and "evil" in warning for warning in found.agent.warnings)
        assert runtime_of(planned({"preload": ["evil"]})) == Runtime(sys.executable, ("evil",))

    @pytest.mark.parametrize("name", ["LD_PRELOAD", "PYTHONHOME", "PYTHONWARNINGS", "GCONV_PATH", "OPENSSL_CONF"])
    def test_variables_that_load_code_do_not_start_a_fork_server_outside(self, name: str) -> None:
        config = {**PRIVATE, "env": {name: "/home/me/evil"}}
        with pytest.raises(UnsupportedStorage, match=f"the variable {name} of its run config"):
            planned(config)
        assert planned(config, storage=COMMAND).env == {name: "/home/me/evil"}
        assert planned(config, env_vars={name: "/home/me/evil"}).env == {name: "/home/me/evil"}
        assert planned({"env": config["env"]}).env == {name: "/home/me/evil"}

    def test_an_engine_that_could_not_reach_its_server_is_refused(self) -> None:
        without: dict[str, Any] = {"isolation": {"level": "private", "network": "none"}}
        access = EngineAccess(api="http://127.0.0.1:4200", endpoint="http://127.0.0.1:4200/graphql")
        engines: list[dict[str, Any]] = [{"type": "Local"}, {"type": "Prefect3", "pull_steps": [{"a": {}}]}]
        for storage in engines:
            assert planned(PRIVATE, storage=storage, access=access).isolation.network == "host"
            with pytest.raises(UnsupportedStorage, match="its engine cannot reach its server"):
                planned(without, storage=storage, access=access)
        by_command = {**without, "command": "./convert"}
        asked: list[tuple[dict[str, Any], dict[str, Any]]] = [(without, COMMAND), (without, PYTHON)]
        for config, storage in (*asked, (by_command, {"type": "Prefect3"})):
            assert planned(config, storage=storage).isolation.network == "none"

    def test_results_are_kept_in_a_sealed_run_unless_it_may_write_where_they_are_otherwise(
        self, tmp_path: Path
    ) -> None:
        access = EngineAccess(api="http://127.0.0.1:4200", endpoint="http://127.0.0.1:4200/graphql")
        moved = {"PREFECT_RESULTS_LOCAL_STORAGE_PATH": "/tmp/.prefect/storage"}
        env = {"HOME": str(tmp_path)}
        asked: list[tuple[object, dict[str, str], bool]] = [
            ("sealed", {}, True),
            ({"level": "sealed", "write": [f"{tmp_path}/.prefect"]}, {}, False),
            ("sealed", {"PREFECT_HOME": "/srv/home"}, False),
            ("private", {}, False),
        ]
        for isolation, more, is_moved in asked:
            config = {"isolation": isolation, "env": {**env, **more}}
            found = planned(config, storage={"type": "Prefect3"}, access=access)
            assert (moved.items() <= found.env.items()) == is_moved
            assert any(f"{tmp_path}/.prefect/storage" in text for text in found.agent.warnings) == is_moved
        weaker = planned({"env": env}, Isolation(level="sealed", if_missing="weaker"), {"type": "Prefect3"})
        assert not moved.items() & weaker.env.items(), "its /tmp may be the host's"

    def test_a_sealed_run_of_prefect_1_has_a_directory_in_place_of_that_for_results(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        access = EngineAccess(api="http://127.0.0.1:4200", endpoint="http://127.0.0.1:4200/graphql")
        usual = f"{tmp_path}/.prefect/results"
        asked: list[tuple[dict[str, Any], bool]] = [
            ({"isolation": "sealed"}, True),
            ({"isolation": {"level": "sealed", "write": [f"{tmp_path}/.prefect"]}}, False),
            ({"isolation": "sealed", "working_dir": str(tmp_path)}, False),
            ({"isolation": "sealed", "env": {"HOME": "/srv"}}, False),
            ({"isolation": "private"}, False),
        ]
        for config, is_own in asked:
            found = planned(config, storage={"type": "Local"}, access=access)
            assert (found.isolation.own == (usual,)) == is_own
            assert any(f"keeps in {usual} are" in text for text in found.agent.warnings) == is_own
            assert parse_spec(json.loads(json.dumps(spec_to_json(found)))).isolation == found.isolation

    def test_harmless_variables_of_a_start_are_allowed(self) -> None:
        env = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "LC_ALL": "C", "COLOUR": "red"}
        assert planned({**PRIVATE, "env": env}).env == env

    def test_the_runner_does_not_read_for_a_flow_what_the_flow_does_not_see(self, tmp_path: Path) -> None:
        home = tmp_path / "home"
        home.mkdir()
        (tmp_path / "link").symlink_to(home / "server.token")
        floor = Isolation(covered=(str(home),))
        for config in (
            {"secrets": {"S": f"file:{home}/server.token"}},
            {"secrets": {"S": f"file:{tmp_path}/link"}},
            {"env_files": [f"{home}/x"]},
        ):
            with pytest.raises(UnsupportedStorage, match="must not know what is in"):
                planned({**PRIVATE, **config}, floor)
        (tmp_path / "agents").symlink_to(home / "s")
        agents = {"S": f"file:{tmp_path}/agents"}
        assert planned(PRIVATE, floor, secrets=agents).secrets == {"S": f"file:{home}/s"}
        assert planned(PRIVATE, floor, env_files=[f"{tmp_path}/agents"]).env_files == (f"{home}/s",)
        assert planned({**PRIVATE, "secrets": {"S": "file:/srv/s"}}, floor).secrets == {"S": "file:/srv/s"}
