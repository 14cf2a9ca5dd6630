"""A bad value is refused with the setting, the source and what is allowed; secrets are never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowherd.config import load_settings
from flowherd.config.catalogue import SETTINGS
from flowherd.errors import ConfigurationError

SECRET = "s3cr3t-t0ken"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path)}


def own_file(environ: dict[str, str], text: str, mode: int = 0o600) -> Path:
    path = Path(environ["HOME"]) / ".flowherd" / "config.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def refusal(environ: dict[str, str], **overrides: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(overrides, environ=environ, argument_names={"agent.limit": "--limit"})
    return str(caught.value)


def test_a_secret_in_place_of_its_source_is_refused_and_not_shown(environ: dict[str, str]) -> None:
    message = refusal({**environ, "FLOWHERD__RUNS__SECRETS": f"DB={SECRET}"})
    assert "file:PATH or env:VARIABLE" in message
    assert SECRET not in message


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("FLOWHERD__CLOUD__REQUEST_TIMEOUT", "soon", "a valid number"),
        ("PREFECT__CLOUD__REQUEST_TIMEOUT", "0", "greater than 0"),
        ("FLOWHERD__AGENT__ON_STOP", "explode", "'detach', 'drain' or 'cancel'"),
        ("FLOWHERD__CLOUD__AGENT__NO_CLOUD_LOGS", "perhaps", "a valid boolean"),
        ("FLOWHERD__CLOUD__API", "prefect.example", "http://HOST:PORT"),
        ("FLOWHERD__SERVER__BIND_PORT", "70000", "65535"),
        ("FLOWHERD__CLOUD__AGENT__LABELS", "[1, 2", "JSON or Python"),
    ],
)
def test_a_bad_variable_is_named_with_its_value_and_what_is_allowed(
    environ: dict[str, str], variable: str, value: str, allowed: str
) -> None:
    message = refusal({**environ, variable: value})
    assert variable in message
    assert repr(value) in message
    assert allowed in message
    assert variable.partition("__")[2].lower().replace("__", ".") in message


def test_a_bad_option_is_named(environ: dict[str, str]) -> None:
    assert "--limit" in refusal(environ, **{"agent.limit": -1})


def test_a_bad_value_in_a_file_names_the_file(environ: dict[str, str]) -> None:
    path = own_file(environ, "[agent]\nlimit = 'many'\n")
    message = refusal(environ)
    assert str(path) in message
    assert "agent.limit" in message


def test_all_bad_values_are_named_at_once(environ: dict[str, str]) -> None:
    message = refusal({**environ, "FLOWHERD__AGENT__LIMIT": "0", "FLOWHERD__BACKEND": "moon"})
    assert "agent.limit" in message
    assert "backend" in message


def test_a_file_that_is_not_toml_is_refused_with_file_and_line(environ: dict[str, str]) -> None:
    path = own_file(environ, "[cloud]\napi = \n")
    message = refusal(environ)
    assert str(path) in message
    assert "line 2" in message


def test_a_file_that_cannot_be_read_is_refused(environ: dict[str, str]) -> None:
    path = Path(environ["HOME"]) / ".flowherd" / "config.toml"
    path.mkdir(parents=True)
    assert str(path) in refusal(environ)


def test_a_file_that_was_named_must_exist(environ: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"other\.toml"):
        load_settings(environ=environ, config_file=tmp_path / "other.toml")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("[cloud.agent]\nlable = ['a']\n", "cloud.agent.labels"),
        ("[cloud]\nname = 'x'\n", "cloud.agent.name"),
        ("[agent]\nlimits = 3\n", "agent.limit"),
    ],
)
def test_an_unknown_key_in_flowherds_file_is_refused_with_a_suggestion(
    environ: dict[str, str], text: str, meant: str
) -> None:
    assert f"did you mean {meant}?" in refusal_of_file(environ, text)


@pytest.mark.parametrize("text", ["nonsense = 1\n", "[nonsense]\n", "[nonsense]\na = 1\n", "cloud = 3\n"])
def test_what_is_not_a_setting_in_flowherds_file_is_refused(environ: dict[str, str], text: str) -> None:
    message = refusal_of_file(environ, text)
    assert "no setting" in message or "is a section" in message


def refusal_of_file(environ: dict[str, str], text: str) -> str:
    own_file(environ, text)
    return refusal(environ)


def test_the_home_cannot_be_set_in_the_file_in_it(environ: dict[str, str]) -> None:
    assert "FLOWHERD_HOME" in refusal_of_file(environ, "home = '/srv'\n")


def test_an_unknown_variable_is_a_warning_with_a_suggestion(environ: dict[str, str]) -> None:
    loaded = load_settings(environ={**environ, "FLOWHERD__CLOUD__AGENT__NAM": "x", "PREFECT__CLOUD__NAM": "x"})
    (warning,) = loaded.warnings
    assert "FLOWHERD__CLOUD__AGENT__NAM " in warning
    assert "did you mean FLOWHERD__CLOUD__AGENT__NAME?" in warning


@pytest.mark.parametrize("dotted", [setting.dotted for setting in SETTINGS.values() if setting.secret])
def test_a_bad_secret_is_named_and_not_shown(environ: dict[str, str], dotted: str) -> None:
    variable = SETTINGS[dotted].variable("FLOWHERD__")
    message = refusal({**environ, variable: f"{SECRET} with a blank"})
    assert variable in message
    assert SECRET not in message


def test_a_repr_contains_no_secret(environ: dict[str, str]) -> None:
    variables = {setting.variable("FLOWHERD__"): SECRET for setting in SETTINGS.values() if setting.secret}
    loaded = load_settings(environ={**environ, **variables, "FLOWHERD__CLOUD__AGENT__ENV_VARS": f"KEY={SECRET}"})
    assert loaded.settings.server.token == SECRET
    assert SECRET not in repr(loaded)
    assert SECRET not in str([loaded.masked(dotted) for dotted in SETTINGS])


def test_a_secret_can_be_in_a_file_of_its_own(environ: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    variable = "FLOWHERD__CLOUD__AGENT__AUTH_TOKEN_FILE"
    loaded = load_settings(environ={**environ, variable: str(path)})
    assert loaded.settings.cloud.agent.auth_token == SECRET
    assert variable in str(loaded.origins["cloud.agent.auth_token"])
    assert str(path) in str(loaded.origins["cloud.agent.auth_token"])
    assert loaded.warnings == ()


def test_the_variable_itself_is_stronger_than_its_file(environ: dict[str, str], tmp_path: Path) -> None:
    variable = "PREFECT__CLOUD__AUTH_TOKEN"
    given = {**environ, variable: "direct", f"{variable}_FILE": str(tmp_path / "missing")}
    assert load_settings(environ=given).settings.cloud.auth_token == "direct"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_file_with_a_secret_that_others_can_access_is_refused(
    environ: dict[str, str], tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "token"
    path.write_text(SECRET)
    path.chmod(mode)
    message = refusal({**environ, "FLOWHERD__SERVER__TOKEN_FILE": str(path)})
    assert str(path) in message
    assert f"{mode:04o}" in message
    assert SECRET not in message


def test_a_missing_file_with_a_secret_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    assert "TOKEN_FILE" in refusal({**environ, "FLOWHERD__SERVER__TOKEN_FILE": str(tmp_path / "none")})


def test_a_secret_in_a_configuration_file_that_others_can_read_is_a_warning(environ: dict[str, str]) -> None:
    text = f"[server]\ntoken = '{SECRET}'\n"
    path = own_file(environ, text, mode=0o644)
    (warning,) = load_settings(environ=environ).warnings
    assert str(path) in warning
    assert "server.token" in warning
    assert SECRET not in warning
    own_file(environ, text, mode=0o600)
    assert load_settings(environ=environ).warnings == ()


def test_a_file_without_secrets_may_be_readable_for_all(environ: dict[str, str]) -> None:
    own_file(environ, "[agent]\nlimit = 3\n", mode=0o644)
    assert load_settings(environ=environ).warnings == ()
