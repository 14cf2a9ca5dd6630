"""A forked Prefect has the configuration of a fresh one: everything is compared, name by name."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from flowherd_runner.contract.variables import PREFECT_PRELOAD
from tests.peers.environments import PREFECT_0_AND_1, Installation, required_installation
from tests.peers.prefect1.workspace import inherited_environment
from tests.support.runner import ForkServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

PROGRAM = Path(__file__).with_name("programs") / "prefect_state.py"
#: A value for everything that Prefect reads from the configuration, other than its default.
SETTINGS = {
    "PREFECT__BACKEND": "cloud",
    "PREFECT__DEBUG": "true",
    "PREFECT__SERVER__HOST": "http://elsewhere",
    "PREFECT__LOGGING__FORMAT": "own %(message)s",
    "PREFECT__LOGGING__DATEFMT": "%Y",
    "PREFECT__LOGGING__EXTRA_LOGGERS": "['mine', 'yours.a']",
    "PREFECT__LOGGING__LOG_ATTRIBUTES": "['flow_name']",
    "PREFECT__LOGGING__LOG_TO_CLOUD": "false",
    "PREFECT__TASKS__DEFAULTS__MAX_RETRIES": "3",
    "PREFECT__TASKS__DEFAULTS__RETRY_DELAY": "5",
    "PREFECT__TASKS__DEFAULTS__TIMEOUT": "7",
    "PREFECT__FLOWS__CHECKPOINTING": "true",
    "PREFECT__FLOWS__EAGER_EDGE_VALIDATION": "true",
    "PREFECT__FLOWS__DEFAULTS__STORAGE__DEFAULT_CLASS": "prefect.storage.Module",
    "PREFECT__ENGINE__EXECUTOR__DEFAULT_CLASS": "prefect.executors.LocalDaskExecutor",
    "PREFECT__ENGINE__FLOW_RUNNER__DEFAULT_CLASS": "prefect.engine.cloud.CloudFlowRunner",
    "PREFECT__ENGINE__TASK_RUNNER__DEFAULT_CLASS": "prefect.engine.cloud.CloudTaskRunner",
    "PREFECT__CLOUD__API": "http://nowhere",
    "PREFECT__CLOUD__AUTH_TOKEN": "a token",
    "PREFECT__CLOUD__API_KEY": "a key",
    "PREFECT__CLOUD__AGENT__LABELS": "['one', 'two']",
    "PREFECT__CLOUD__REQUEST_TIMEOUT": "99",
    "PREFECT__CLOUD__HEARTBEAT_INTERVAL": "3",
    "PREFECT__CLOUD__CHECK_CANCELLATION_INTERVAL": "2",
    "PREFECT__CLOUD__USE_LOCAL_SECRETS": "false",
    "PREFECT__CONTEXT__SECRETS__Mine": "a secret",
    "PREFECT__CONTEXT__FLOW_RUN_ID": "a run",
    "PREFECT__NOT__KNOWN": "of the user's own",
}
#: Names that only commands use which a run does not call.
_OF_COMMANDS = ("prefect.cli.server.", "prefect.cli.auth.AUTH_TOKEN_SETTINGS_PATH", "prefect.agent.kubernetes.agent.")

#: Names that flowherd replaces: the way of log records, and speedups.
_OURS = {
    "prefect.utilities.logging.CloudHandler.emit",
    "prefect.configuration.load_toml",
    "prefect.configuration.Config.copy",
    "prefect.utilities.context.merge_dicts",
}


@pytest.fixture(params=PREFECT_0_AND_1)
def installation(request: pytest.FixtureRequest) -> Installation:
    return required_installation(request.param)


def of_a_fresh_interpreter(installation: Installation, env: dict[str, str], file: Path) -> dict[str, str]:
    subprocess.run([installation.python, PROGRAM, file], env={**inherited_environment(), **env}, check=True, timeout=60)
    return _read(file)


def of_a_fork(
    installation: Installation, before: dict[str, str], env: dict[str, str], tmp_path: Path
) -> dict[str, str]:
    """Take the same steps as a run, under a fork server that was started with the variables `before`."""
    fork_server = ForkServer(str(installation.python), tmp_path / "runs", preload=PREFECT_PRELOAD, env=before)
    try:
        file = tmp_path / "forked.json"
        run = fork_server.python(
            "import os, runpy\n"
            "def main():\n"
            "    from flowherd_runner.kinds.prefect1 import configuration, log_records\n"
            f"    for name in {sorted(set(before) - set(env))!r}: os.environ.pop(name)\n"
            "    configuration.renew()\n"
            "    log_records.redirect(lambda *record: None)\n"
            f"    runpy.run_path({str(PROGRAM)!r})['write']({str(file)!r})\n",
            env=env,
        )
        assert run.wait()["exit_code"] == 0, run.describe()
        return _read(file)
    finally:
        fork_server.close()


def _read(file: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(file.read_text())
    return {name: text for name, text in found.items() if not name.startswith(_OF_COMMANDS)}


def test_nothing_of_the_fork_servers_configuration_is_left_in_a_run(installation: Installation, tmp_path: Path) -> None:
    homes = [tmp_path / "before", tmp_path / "home"]
    for number, home in enumerate(homes):
        (home / ".prefect").mkdir(parents=True)
        (home / ".prefect" / "config.toml").write_text(f"[fromfile]\nnumber = {number}\n")
        (home / ".prefect" / "backend.toml").write_text('backend = "server"\n')
    before = {
        "HOME": str(homes[0]),
        "PREFECT__LOGGING__EXTRA_LOGGERS": "['theirs']",
        "PREFECT__LOGGING__LEVEL": "ERROR",
        "PREFECT__CONTEXT__LEAK": "1",
        "PREFECT__ONLY__BEFORE": "1",
        "PREFECT__USER_CONFIG_PATH": str(homes[0] / "none"),
    }
    env = {"HOME": str(homes[1]), **SETTINGS}
    forked = of_a_fork(installation, before, env, tmp_path)
    fresh = of_a_fresh_interpreter(installation, env, tmp_path / "fresh.json")
    different = {name for name in {*fresh, *forked} if fresh.get(name) != forked.get(name)}
    assert different == _OURS
    assert "fromfile', \"Config [('number', '1')]" in fresh["prefect.config"]


def test_dask_reads_the_runs_own_settings(installation: Installation, tmp_path: Path) -> None:
    fork_server = ForkServer(
        str(installation.python), tmp_path / "runs", preload=PREFECT_PRELOAD, env={"DASK_NUM_WORKERS": "7"}
    )
    try:
        code = (
            "def main():\n"
            "    from flowherd_runner.kinds.prefect1 import configuration\n"
            "    configuration.renew()\n"
            "    import dask.config\n"
            "    print(dask.config.get('num_workers'), dask.config.get('own.from_file'))\n"
        )
        (tmp_path / ".config" / "dask").mkdir(parents=True)
        (tmp_path / ".config" / "dask" / "own.yaml").write_text("own:\n  from_file: yes\n")
        run = fork_server.python(code, env={"HOME": str(tmp_path), "DASK_NUM_WORKERS": "3"})
        assert run.wait()["exit_code"] == 0, run.describe()
        assert run.lines() == ["3 True"]
    finally:
        fork_server.close()


#: Copies of the configuration are independent down to the last section, and convert what is put into them.
COPIES = """
import prefect
from prefect.configuration import Config, config
copy = config.copy()
assert copy == config and type(copy) is type(copy.cloud) is type(copy.server.ui) is Config
copy.server.ui.port = "other"
assert config.server.ui.port != "other" and copy.copy().server.ui.port == "other"
copy["new"] = {"section": {"key": 1}}
assert copy.new.section.key == copy.copy().new.section.key == 1 and "new" not in config
assert copy.to_dict()["new"] == {"section": {"key": 1}}
with prefect.context(config={"cloud": {"api": "another"}}, colour="red"):
    assert prefect.context.config.cloud.api == "another"
    assert prefect.context.config.cloud.graphql == config.cloud.graphql
    with prefect.context(dict(prefect.context)):
        assert prefect.context.config.cloud.api == "another"
        prefect.context.config.cloud.api = "changed inside"
    assert prefect.context.config.cloud.api == "another"
assert prefect.context.config == config and "colour" not in prefect.context
"""


@pytest.mark.parametrize("shortcuts", [False, True])
def test_configuration_and_context_behave_the_same_with_our_shortcuts(
    installation: Installation, shortcuts: bool, tmp_path: Path
) -> None:
    preload = PREFECT_PRELOAD if shortcuts else ("prefect",)
    fork_server = ForkServer(str(installation.python), tmp_path / "runs", preload=preload, env={"HOME": str(tmp_path)})
    try:
        run = fork_server.python(f"def main():\n    exec({COPIES!r}, {{}})\n    print('all hold')\n")
        assert run.wait()["exit_code"] == 0, run.describe()
        assert run.lines() == ["all hold"]
    finally:
        fork_server.close()
