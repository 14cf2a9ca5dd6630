"""Prefect's own configuration files are read by Prefect's rules; tests/peers/ compares them with the real Prefects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flowherd import Agent
from flowherd.config import LoadedSettings, load_settings
from flowherd.config.catalogue import value_of
from flowherd.errors import ConfigurationError


def loaded(home: Path, text: str = "", environ: Mapping[str, str] | None = None, **overrides: Any) -> LoadedSettings:
    place = home / ".prefect" / "config.toml"
    place.parent.mkdir(exist_ok=True)
    place.write_text(text)
    given = {name.replace("__", "."): value for name, value in overrides.items()}
    return load_settings(given, environ={"HOME": str(home), **(environ or {})})


def test_variables_and_references_are_filled_in_and_lists_stay_as_they_are(tmp_path: Path) -> None:
    text = """
    [firm]
    name = "north"
    [cloud]
    api = "$FIRM_API/${firm.name}"
    request_timeout = "${firm.patience}"
    [cloud.agent]
    auth_token = "${FIRM_TOKEN}"
    name = "agent-${firm.name}-${nothing.there}"
    labels = ["a", "$USERLABEL"]
    [cloud.agent.env_vars]
    A = "$FIRM_TOKEN"
    """
    environ = {"FIRM_API": "http://127.0.0.1:1", "FIRM_TOKEN": "t-99", "USERLABEL": "u", "PREFECT__FIRM__PATIENCE": "7"}
    cloud = loaded(tmp_path, text, environ).settings.cloud
    assert (cloud.api, cloud.agent.auth_token, cloud.request_timeout) == ("http://127.0.0.1:1/north", "t-99", 7.0)
    assert (cloud.agent.name, cloud.agent.labels) == ("agent-north-", ["a", "$USERLABEL"])
    assert cloud.agent.env_vars == {"A": "t-99"}


def test_a_file_that_others_can_read_is_a_warning_if_it_has_a_secret_and_not_only_the_name_of_one(
    tmp_path: Path,
) -> None:
    named, written = "[cloud.agent]\nauth_token = '$TOKEN'\n", "[cloud.agent]\nauth_token = 'token'\n"
    assert loaded(tmp_path, named, {"TOKEN": "token"}).warnings == ()
    for text in (written, "[cloud]\napi_key = 'key'\n"):
        assert "cloud.agent.auth_token" in loaded(tmp_path, text).warnings[0]


def test_prefects_variables_are_expanded_as_well_and_flowherds_are_not(tmp_path: Path) -> None:
    environ = {"WHO": "me", "PREFECT__CLOUD__AGENT__NAME": "${WHO} at ${firm.name}"}
    text = '[firm]\nname = "north"\n'
    assert loaded(tmp_path, text, environ).settings.cloud.agent.name == "me at north"
    environ["FLOWHERD__CLOUD__AGENT__NAME"] = "$WHO"
    assert loaded(tmp_path, text, environ).settings.cloud.agent.name == "$WHO"


def test_a_variable_that_is_not_set_stands_as_it_is_with_a_warning(tmp_path: Path) -> None:
    found = loaded(tmp_path, "[cloud.agent]\n\nname = 'on $NO_SUCH'\nlabels = ['$OTHER']\n")
    assert found.settings.cloud.agent.name == "on $NO_SUCH"
    (warning,) = found.warnings
    assert "line 3" in warning and "$NO_SUCH" in warning and "cloud.agent.name" in warning
    (warning,) = loaded(tmp_path, "[cloud.agent]\nauth_token = 'se$cret'\n").warnings[:1]
    assert "cret" not in warning


def test_a_number_or_a_switch_may_stand_where_a_text_belongs(tmp_path: Path) -> None:
    text = "[cloud.agent]\nname = 7\nno_cloud_logs = 'True'\n"
    agent = loaded(tmp_path, text).settings.cloud.agent
    assert (agent.name, agent.no_cloud_logs) == ("7", True)


def test_the_api_key_of_the_file_is_the_agents_token(tmp_path: Path) -> None:
    assert loaded(tmp_path, "[cloud]\napi_key = 'key'\n").settings.cloud.agent.auth_token == "key"
    both = "[cloud]\napi_key = 'key'\n[cloud.agent]\nauth_token = 'token'\n"
    assert loaded(tmp_path, both).settings.cloud.agent.auth_token == "token"


@pytest.mark.parametrize(
    ("environ", "text", "address"),
    [
        ({"PREFECT__SERVER__ENDPOINT": "http://a:1"}, "", "http://a:1"),
        ({"PREFECT__SERVER__HOST": "http://a"}, "", "http://a:4200"),
        ({}, "[server]\nhost = 'http://a'\nport = 5\n", "http://a:5"),
        ({"PREFECT__SERVER__ENDPOINT": "http://a:1"}, "[cloud]\napi = 'http://chosen'\n", "http://chosen"),
        ({"PREFECT__BACKEND": "cloud", "PREFECT__SERVER__ENDPOINT": "http://a:1"}, "", ""),
        ({"PREFECT__CLOUD__ENDPOINT": "http://c"}, "backend = 'cloud'\n", "http://c"),
        # A copy of Prefect's own defaults chooses nothing.
        ({}, "[server]\nendpoint = '${server.host}:${server.port}'\n[cloud]\napi = '${${backend}.endpoint}'\n", ""),
    ],
)
def test_the_address_of_prefects_server_is_that_of_the_api(
    tmp_path: Path, environ: dict[str, str], text: str, address: str
) -> None:
    assert loaded(tmp_path, text, environ).settings.cloud.api == address


def test_the_backend_that_was_chosen_by_command_is_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "backend.toml").write_text("backend = 'cloud'\n")
    environ = {"PREFECT__SERVER__ENDPOINT": "http://a:1", "PREFECT__BACKEND_CONFIG_PATH": "$HOME/backend.toml"}
    assert loaded(tmp_path, "", environ).settings.cloud.api == ""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[cloud]\napi = \n", "line 2"),
        ("[cloud]\n\nrequest_timeout = 'soon'\n", "line 3"),
        ("[cloud.agent]\nname = 'a'\nlabels = '[1, 2'\n", "line 3"),
        ("cloud.agent.level = 'LOUD'\n", "line 1"),
        ("a = 1\ncloud = 3\n", "line 2"),
        ("[cloud]\napi = ['http://a']\n", "line 2"),
    ],
)
def test_a_bad_line_is_refused_with_file_and_line(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        loaded(tmp_path, text)
    assert str(tmp_path / ".prefect" / "config.toml") in str(caught.value)
    assert line in str(caught.value)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_requests_variables_name_the_authorities(tmp_path: Path, variable: str) -> None:
    found = loaded(tmp_path, "", {variable: "/firm.pem"})
    assert found.settings.cloud.ca_bundle == "/firm.pem" and variable in str(found.origins["cloud.ca_bundle"])


@pytest.mark.parametrize("name", ["PREFECT__CLOUD__SEND_FLOW_RUN_LOGS", "PREFECT__LOGGING__LOG_TO_CLOUD"])
def test_logs_stay_off_the_backend_by_the_agents_environment(tmp_path: Path, name: str) -> None:
    assert loaded(tmp_path).settings.sends_logs is True
    assert loaded(tmp_path, "", {name: "false"}).settings.sends_logs is False
    assert loaded(tmp_path, "[cloud]\nsend_flow_run_logs = false\n").settings.sends_logs is False
    assert Agent(settings=loaded(tmp_path, "", {name: "false"})).log_to_cloud is False
    # Files that were made from the defaults of 0.x have this, and its agents send logs.
    assert loaded(tmp_path, "[logging]\nlog_to_cloud = false\n").settings.sends_logs is True


@pytest.mark.parametrize("url", ["http://[::1", "http://host:port", "http://host:99999", "ftp://host", "host:80"])
def test_what_is_no_address_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigurationError, match="http://HOST:PORT"):
        loaded(tmp_path, cloud__api=url)


def test_a_password_in_an_address_is_not_shown(tmp_path: Path) -> None:
    found = loaded(tmp_path, cloud__api="http://me:pw-1@host:1/path")
    assert value_of(found.settings, "cloud.api") == "http://me:pw-1@host:1/path"
    assert found.masked("cloud.api") == "http://***@host:1/path"


def test_headers_are_checked_and_their_values_not_shown(tmp_path: Path) -> None:
    environ = {"FLOWHERD__CLOUD__CUSTOM_HEADERS": '{"X-Key": "k-1"}'}
    found = loaded(tmp_path, "", environ)
    assert found.settings.cloud.custom_headers == {"X-Key": "k-1"} and "k-1" not in str(
        found.masked("cloud.custom_headers")
    )
    for bad in ('{"X Key": "k-1"}', '{"X-Key": "k-1\\nX-Other: 2"}'):
        with pytest.raises(ConfigurationError, match="custom_headers") as caught:
            loaded(tmp_path, "", {"FLOWHERD__CLOUD__CUSTOM_HEADERS": bad})
        assert "k-1" not in str(caught.value)
