"""docs/reference/client.md: its examples work against a real server and agent, and it names all that is public."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flowherd import Client, InvalidRequest, LocalAgent
from flowherd.testing import running_agent
from tests.support.example_pages import examples, names_in_prose, run_examples
from tests.support.server import ServerProcess, running_server

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "client.md"

pytestmark = pytest.mark.usefixtures("no_process_left")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    """A server that is found by the home, as by any program of its user."""
    monkeypatch.chdir(tmp_path)
    with running_server(tmp_path / "data") as server:
        monkeypatch.setenv("FLOWHERD_HOME", str(server.home))
        yield server


def test_the_examples_work(server: ServerProcess) -> None:
    assert examples(PAGE).count("assert ") >= 12
    with running_agent(LocalAgent("worker")):
        run_examples(PAGE)


def test_the_page_names_all_methods() -> None:
    public = {name for kind in Client.__mro__[:-1] for name in vars(kind) if not name.startswith("_")}
    assert public - names_in_prose(PAGE) - {"over"} == set()


def test_what_cannot_be_registered_is_refused_before_anything_is_sent(server: ServerProcess) -> None:
    with Client() as client:
        refused = {
            "either python": {},
            "command is a list": {"command": "echo hello"},
            "no limit 'memory'": {"command": ["true"], "limits": {"memory": 5}},
            "none of DEBUG": {"command": ["true"], "log_level": "loud"},
            "exclude each other": {"command": ["true"], "cron": "@daily", "interval_s": 60},
            "cannot be followed": {"command": ["true"], "cron": "every day"},
            "no rule 'retry'": {"command": ["true"], "rules": {"retry": 2}},
            "overlap must be one of": {"command": ["true"], "rules": {"overlap": "never"}},
            "at least one second": {"command": ["true"], "interval_s": 0.5},
        }
        for message, arguments in refused.items():
            with pytest.raises(InvalidRequest, match=message):
                client.register("refused", **arguments)  # type: ignore[arg-type]
        assert client.flows() == []
