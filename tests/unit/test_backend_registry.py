"""Which backend the settings choose, and what happens if that one is missing or broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flowherd.backends.graphql.backend import GraphQLBackend
from flowherd.backends.memory import MemoryBackend
from flowherd.backends.prefect3.backend import Prefect3Backend
from flowherd.backends.registry import open_backend
from flowherd.cli.doctor.check_added_backend import check_added_backend
from flowherd.config import LoadedSettings, load_settings
from flowherd.errors import ConfigurationError
from tests.support.packages import install_backend

SOURCE = """
from flowherd.backends.memory import MemoryBackend

class Added(MemoryBackend):
    pass

def open_added(loaded, *, only_look):
    backend = Added()
    backend.address = f"{loaded.settings.cloud.agent.name} {only_look}"
    return backend

not_a_function = 5
"""
POOL = {"prefect3.pool": "herd", "prefect3.api": "http://host:4200/api"}


def loaded(**given: Any) -> LoadedSettings:
    return load_settings({"cloud.api": "http://host:4200", **given})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    return site


@pytest.mark.parametrize(
    ("given", "name", "kind"),
    [
        ({}, "graphql", GraphQLBackend),
        (POOL, "prefect3", Prefect3Backend),
        ({"agent.backend": "memory", **POOL}, "memory", MemoryBackend),
        ({"agent.backend": "graphql", **POOL}, "graphql", GraphQLBackend),
        ({"agent.backend": "prefect3", **POOL}, "prefect3", Prefect3Backend),
    ],
)
def test_the_name_decides_and_else_whether_a_work_pool_is_set(
    given: dict[str, str], name: str, kind: type[object]
) -> None:
    api = "http://host:4200/api" if kind is Prefect3Backend else "http://host:4200"
    settings = loaded(**{"cloud.api": api, **given})
    assert settings.settings.backend_name == name
    backend = open_backend(settings)
    assert isinstance(backend, kind)
    backend.close()


def test_a_work_pool_is_needed_for_prefect_3() -> None:
    with pytest.raises(ConfigurationError, match=r"is prefect3, and no work pool is set: name one with --pool"):
        open_backend(loaded(**{"agent.backend": "prefect3"}))


def test_a_backend_of_another_package_is_opened_with_the_settings(site: Path) -> None:
    install_backend(site, "added", "added_backend:open_added", "added_backend", SOURCE)
    settings = loaded(**{"agent.backend": "added", "cloud.agent.name": "herder"})
    backend = open_backend(settings, only_look=True)
    assert (type(backend).__name__, backend.address) == ("Added", "herder True")


def test_an_unknown_name_is_refused_with_the_known_ones(site: Path) -> None:
    install_backend(site, "added", "added_backend:open_added", "added_backend", SOURCE)
    with pytest.raises(
        ConfigurationError,
        match=r"^agent\.backend, from .*: there is no backend 'ad'; known are added, graphql, memory, prefect3\. "
        r"Install the package .* entry points of the group flowherd\.backends$",
    ):
        open_backend(loaded(**{"agent.backend": "ad"}))


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("added_backend:missing", "AttributeError: .*missing"),
        ("another_module:open_added", "ModuleNotFoundError: No module named 'another_module'"),
        ("added_backend:not_a_function", "is not a function"),
        ("broken_backend:open_added", "ZeroDivisionError"),
    ],
)
def test_a_backend_that_cannot_be_loaded_is_named_with_the_reason(site: Path, target: str, reason: str) -> None:
    (site / "broken_backend.py").write_text("1 / 0")
    install_backend(site, "added", target, "added_backend", SOURCE)
    with pytest.raises(ConfigurationError, match=f"the backend 'added' cannot be loaded.*{reason}"):
        open_backend(loaded(**{"agent.backend": "added"}))


def test_two_packages_with_the_same_backend_are_refused(site: Path) -> None:
    install_backend(site, "added", "added_backend:open_added", "added_backend", SOURCE)
    install_backend(site, "added", "second_backend:open_added", "second_backend", SOURCE, package="second")
    with pytest.raises(ConfigurationError, match=r"two packages have a backend 'added' \(added_backend:open_added and"):
        open_backend(loaded(**{"agent.backend": "added"}))


def test_the_names_of_own_backends_cannot_be_taken_over(site: Path) -> None:
    install_backend(site, "memory", "added_backend:open_added", "added_backend", SOURCE)
    assert type(open_backend(loaded(**{"agent.backend": "memory"}))) is MemoryBackend


def test_the_doctor_connects_to_an_added_backend(site: Path) -> None:
    install_backend(site, "added", "added_backend:open_added", "added_backend", SOURCE)
    (finding,) = check_added_backend(loaded(**{"agent.backend": "added", "cloud.agent.name": "herder"}))
    assert (finding.grade, finding.detail) == ("ok", "memory: herder True answers")
    (finding,) = check_added_backend(loaded(**{"agent.backend": "ad"}))
    assert finding.grade == "bad" and "known are added" in finding.detail
