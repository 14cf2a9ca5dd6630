"""Address and credentials of a Prefect 3 server from Prefect 3's own settings, and the backend that they lead to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flowherd.backends.graphql.backend import GraphQLBackend
from flowherd.backends.prefect3.backend import Prefect3Backend
from flowherd.backends.registry import open_backend
from flowherd.config import LoadedSettings, load_settings
from flowherd.errors import ConfigurationError

PROFILES = """
active = "site"
[profiles.site]
PREFECT_API_URL = "http://site:4200/api"
PREFECT_API_KEY = "site-key"
[profiles.other]
PREFECT_API_URL = "http://other:4200/api"
PREFECT_LOGGING_LEVEL = "DEBUG"
PREFECT_API_AUTH_STRING = 5
"""


def loaded(home: Path, environ: Mapping[str, str] | None = None, **overrides: Any) -> LoadedSettings:
    given = {name.replace("__", "."): value for name, value in overrides.items()}
    return load_settings({"prefect3.pool": "herd", **given}, environ={"HOME": str(home), **(environ or {})})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".prefect").mkdir()
    (tmp_path / ".prefect" / "profiles.toml").write_text(PROFILES)
    return tmp_path


def api(settings: LoadedSettings) -> str:
    backend = open_backend(settings)
    assert isinstance(backend, Prefect3Backend)
    return backend.address


def test_the_active_profile_has_address_and_key(home: Path) -> None:
    settings = loaded(home)
    assert api(settings) == "http://site:4200/api"
    assert settings.settings.prefect3.api_key == "site-key" and settings.masked("prefect3.api_key") != "site-key"
    assert str(settings.origins["prefect3.api"]).endswith("profiles.toml")


def test_a_variable_selects_another_profile(home: Path) -> None:
    assert api(loaded(home, {"PREFECT_PROFILE": "other"})) == "http://other:4200/api"


def test_the_profiles_may_be_elsewhere(home: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.toml"
    moved.write_text(PROFILES.replace("site:", "moved:"))
    assert api(loaded(home, {"PREFECT_PROFILES_PATH": str(moved)})) == "http://moved:4200/api"
    assert api(loaded(tmp_path / "none", {"PREFECT_HOME": str(home / ".prefect")})) == "http://site:4200/api"


def test_prefects_variables_are_stronger_than_the_profile_and_flowherds_than_both(home: Path) -> None:
    variables = {"PREFECT_API_URL": "http://variable:4200/api", "PREFECT_API_AUTH_STRING": "admin:pass"}
    settings = loaded(home, variables)
    assert (api(settings), settings.settings.prefect3.auth_string) == ("http://variable:4200/api", "admin:pass")
    assert api(loaded(home, {**variables, "FLOWHERD__PREFECT3__API": "http://ours/api"})) == "http://ours/api"


def test_an_address_on_the_command_line_is_the_strongest(home: Path) -> None:
    assert api(loaded(home, cloud__api="http://typed:1/api")) == "http://typed:1/api"


def test_a_token_on_the_command_line_is_the_key_and_one_for_the_other_api_is_not_sent(home: Path) -> None:
    def key(settings: LoadedSettings) -> object:
        return open_backend(settings)._transport.api_key  # type: ignore[attr-defined]

    assert key(loaded(home, cloud__agent__auth_token="typed")) == "typed"
    assert key(loaded(home, {"PREFECT__CLOUD__AGENT__AUTH_TOKEN": "another-servers"})) == "site-key"


def test_the_configured_api_is_used_if_prefect_3_has_no_address(tmp_path: Path) -> None:
    assert api(loaded(tmp_path, {"FLOWHERD__CLOUD__API": "http://cloud/api"})) == "http://cloud/api"


def test_without_a_pool_prefect_3s_settings_are_not_used(home: Path) -> None:
    settings = loaded(home, prefect3__pool="", cloud__api="http://old:4200")
    assert isinstance(open_backend(settings), GraphQLBackend)


def test_profiles_that_cannot_be_read_are_ignored(home: Path) -> None:
    (home / ".prefect" / "profiles.toml").write_text("active = [")
    with pytest.raises(ConfigurationError, match="no API is known for the work pool 'herd'"):
        open_backend(loaded(home))


def test_an_address_that_is_not_a_prefect_3_api_is_refused_with_its_source(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"prefect3\.api, from variable PREFECT_API_URL: not an address"):
        open_backend(loaded(tmp_path, {"PREFECT_API_URL": "http://host:4200"}))


def test_names_that_prefect_3_refuses_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"prefect3\.pool"):
        loaded(tmp_path, prefect3__pool="a/b")
