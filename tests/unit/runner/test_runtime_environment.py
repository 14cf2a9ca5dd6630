"""The variables of a run's environment are those that activating its interpreter's environment would make."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowherd_runner.runtime_environment import enter_environment


def interpreter(prefix: Path, *marks: str) -> str:
    for mark in marks:
        (prefix / mark).mkdir(parents=True)
    (prefix / "bin").mkdir(parents=True, exist_ok=True)
    program = prefix / "bin" / "python3"
    program.touch(mode=0o755)
    return str(program)


def entered(program: str, **before: str) -> dict[str, str]:
    variables = dict(before)
    enter_environment(variables, program)
    return variables


def test_a_virtual_environment_comes_first_and_takes_the_place_of_the_agents(tmp_path: Path) -> None:
    own = interpreter(tmp_path / "own", "pyvenv.cfg")
    before = {"PATH": "/agents/bin:/usr/bin", "VIRTUAL_ENV": "/agents", "VIRTUAL_ENV_PROMPT": "agents", "A": "1"}
    prefix = str(tmp_path / "own")
    expected = {"PATH": f"{prefix}/bin:/agents/bin:/usr/bin", "VIRTUAL_ENV": prefix, "A": "1"}
    assert entered(own, **before) == expected
    assert entered(own, **expected) == expected, "entering twice adds nothing"
    assert entered(own)["PATH"].startswith(f"{prefix}/bin:/"), "programs of the host are found without a PATH too"


@pytest.mark.parametrize(
    ("place", "marks", "name"),
    [
        ("conda", ["conda-meta", "condabin"], "base"),
        ("conda/envs/own", ["conda-meta"], "own"),
        ("elsewhere", ["conda-meta"], None),
    ],
)
def test_a_conda_environment_is_named_as_conda_does(
    tmp_path: Path, place: str, marks: list[str], name: str | None
) -> None:
    prefix = tmp_path / place
    found = entered(interpreter(prefix, *marks), PATH="/usr/bin", VIRTUAL_ENV="/agents")
    names = {"CONDA_PREFIX": str(prefix), "CONDA_DEFAULT_ENV": name or str(prefix)}
    assert found == {"PATH": f"{prefix}/bin:/usr/bin", **names}


def test_an_interpreter_of_no_environment_is_found_under_its_name_and_changes_nothing_otherwise(tmp_path: Path) -> None:
    plain, other = interpreter(tmp_path / "plain"), interpreter(tmp_path / "other")
    first, second = str(tmp_path / "plain/bin"), str(tmp_path / "other/bin")
    assert entered(plain, PATH=f"/nothing:{first}:{second}") == {"PATH": f"/nothing:{first}:{second}"}
    assert entered(other, PATH=f"{first}:{second}") == {"PATH": f"{second}:{first}:{second}"}
    assert entered(plain, PATH="/nothing", VIRTUAL_ENV="/agents") == {"PATH": f"{first}:/nothing"}
