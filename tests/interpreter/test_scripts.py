"""A run in the fork behaves like a fresh interpreter: many small scripts, compared with CPython itself.

Three ways of running each: in the warm fork, with its imports preloaded, and by exec, which is what happens if a
preloaded module has started a thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.interpreter.compare import (
    Script,
    Stage,
    all_scripts,
    describe,
    differences,
    python_parameters,
    pythons,
    version_of,
)
from tests.support.runner import THREAD_AT_START, ForkServer

_SCRIPTS = all_scripts()


@pytest.fixture(scope="module", params=python_parameters())
def python(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", autouse=True)
def no_variables_of_python() -> Iterator[None]:
    """Keep the caller's settings of the interpreter, such as PYTHONUNBUFFERED, from both sides."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PYTHON")]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="module")
def stage(python: str, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage(tmp_path_factory.mktemp("scripts"))


@pytest.fixture(scope="module")
def servers(
    python: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, no_variables_of_python: None
) -> Iterator[dict[str, ForkServer]]:
    """The fork servers by the way in which they start a run; the older Python has all of them only with --full."""
    place = tmp_path_factory.mktemp("servers")
    (place / "sitecustomize.py").write_text(THREAD_AT_START)
    preload = sorted({name for script in _SCRIPTS if version_of(python) >= script.since for name in script.preload})
    started = {"warm": ForkServer(python, place / "warm", spares_wanted=1, idle_s=0.0)}
    try:
        if python == pythons()[-1] or request.config.getoption("--full"):
            started["preloaded"] = ForkServer(python, place / "preloaded", preload)
            started["exec"] = ForkServer(python, place / "exec", [], {"PYTHONPATH": str(place)})
        for way, server in started.items():
            assert server.ready["failed"] == {}
            assert server.ready["threads"] == (2 if way == "exec" else 1)
        yield started
    finally:
        for server in started.values():
            server.close()


def test_there_are_enough_scripts_and_each_has_a_name_of_its_own() -> None:
    names = [script.name for script in _SCRIPTS]
    assert len(names) >= 80
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("script", _SCRIPTS, ids=lambda script: script.name)
def test_a_script_does_the_same_as_a_flow(
    script: Script, python: str, stage: Stage, servers: dict[str, ForkServer], request: pytest.FixtureRequest
) -> None:
    if version_of(python) < script.since:
        pytest.skip(f"needs Python {script.since[0]}.{script.since[1]}")
    expected = stage.by_python(python, script)
    # An exec is the most expensive way, and much of what the scripts show does not depend on it.
    by_exec = request.config.getoption("--full") or _SCRIPTS.index(script) % 4 == 0
    for way, server in servers.items():
        if way == "exec" and not by_exec:
            continue
        found, run = stage.as_flow(server, script, way)
        assert differences(expected, found) == "", f"{way}:\n{describe(run)}"
