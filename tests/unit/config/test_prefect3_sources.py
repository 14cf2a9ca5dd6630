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


@pytest.fixture
def work_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in which the agent is started."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def test_files_of_the_working_directory_are_stronger_than_the_profile_in_prefects_order(
    home: Path, work_dir: Path
) -> None:
    def address() -> str:
        return loaded(home).settings.prefect3.api

    (work_dir / "pyproject.toml").write_text('[tool.prefect.api]\nurl = "http://pyproject/api"\n')
    assert address() == "http://pyproject/api"
    (work_dir / "prefect.toml").write_text('[api]\nurl = "http://prefect-toml/api"\n')
    assert address() == "http://prefect-toml/api"
    (work_dir / ".env").write_text("# ours\nexport PREFECT_API_URL='http://dotenv/api'\nOTHER=1\n")
    assert address() == "http://dotenv/api"
    assert loaded(home).settings.prefect3.api_key == "site-key"


def test_types_of_files_and_variables_are_prefects(home: Path, work_dir: Path) -> None:
    (work_dir / "prefect.toml").write_text(
        "[api]\nrequest_timeout = 9\ntls_insecure_skip_verify = true\n"
        '[client]\ncustom_headers = {X-Key = "k"}\n[logging.to_api]\nenabled = false\n'
    )
    own = loaded(home).settings.prefect3
    assert (own.request_timeout, own.tls_insecure_skip_verify, own.logging_to_api) == (9.0, True, False)
    assert own.custom_headers == {"X-Key": "k"}
    given = {"PREFECT_CLIENT_CUSTOM_HEADERS": '{"X-Key": "v"}', "prefect_api_request_timeout": "3"}
    own = loaded(home, given).settings.prefect3
    assert (own.custom_headers, own.request_timeout) == ({"X-Key": "v"}, 3.0)


def test_a_bad_line_in_a_file_of_the_working_directory_is_refused_for_a_pool(home: Path, work_dir: Path) -> None:
    place = work_dir / "prefect.toml"
    place.write_text("[api]\nurl = \n")
    with pytest.raises(ConfigurationError, match=r"prefect\.toml is not TOML.*line 2"):
        loaded(home)
    assert loaded(home, prefect3__pool="").warnings == ()
    place.write_text("[api]\n\nrequest_timeout = 'soon'\n")
    with pytest.raises(ConfigurationError, match=r"prefect3\.request_timeout = 'soon' from .*prefect\.toml, line 3"):
        loaded(home)


def test_profiles_that_cannot_be_used_are_a_warning_with_file_and_line(home: Path) -> None:
    (warning,) = loaded(home, {"PREFECT_PROFILE": "missing"}).warnings
    assert "'missing'" in warning and "profiles.toml" in warning
    (home / ".prefect" / "profiles.toml").write_text("active = 'a'\n[profiles\n")
    (warning,) = loaded(home, {"PREFECT_API_URL": "http://host/api"}).warnings
    assert "profiles.toml" in warning and "line 2" in warning


def test_without_a_file_of_profiles_there_are_those_that_prefect_comes_with(tmp_path: Path) -> None:
    assert loaded(tmp_path, {"PREFECT_PROFILE": "local"}).settings.prefect3.api == "http://127.0.0.1:4200/api"
    assert loaded(tmp_path).settings.prefect3.api == "" and loaded(tmp_path).warnings == ()


def test_a_bad_value_in_a_profile_is_refused_with_its_line(home: Path) -> None:
    (home / ".prefect" / "profiles.toml").write_text("active='a'\n[profiles.a]\nPREFECT_API_REQUEST_TIMEOUT = 'soon'\n")
    with pytest.raises(ConfigurationError, match=r"profiles\.toml, line 3"):
        loaded(home)


def test_the_file_of_authorities_is_prefects_own_and_ssl_cert_file_its_default(home: Path) -> None:
    (home / ".prefect" / "profiles.toml").write_text("active='a'\n[profiles.a]\nPREFECT_API_SSL_CERT_FILE = '/of/a'\n")
    given = {"SSL_CERT_FILE": "/usual"}
    assert loaded(home, given).settings.prefect3.ssl_cert_file == "/of/a"
    given["PREFECT_API_SSL_CERT_FILE"] = "/chosen"
    assert loaded(home, given).settings.prefect3.ssl_cert_file == "/chosen"
    assert loaded(home / "none", {"SSL_CERT_FILE": "/usual"}).settings.prefect3.ssl_cert_file == "/usual"


def test_what_files_set_is_handed_to_runs_as_prefects_worker_does(home: Path, work_dir: Path) -> None:
    (work_dir / "pyproject.toml").write_text("[tool.prefect]\nlogging.level = 'DEBUG'\nserver.api.port = 9\n")
    variables = loaded(home).engine_variables
    assert variables["PREFECT_LOGGING_LEVEL"] == "DEBUG" and variables["PREFECT_API_KEY"] == "site-key"
    assert "PREFECT_SERVER_API_PORT" not in variables
