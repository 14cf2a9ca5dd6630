"""Which values of a run are secrets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flowherd_runner.masking import Mask
from flowherd_runner.secret_values import Rules, Secrets, find_secrets, masked_notice


def found(
    variables: dict[str, str] | None = None,
    parameters: Any = None,
    declared: tuple[str, ...] = (),
    mask: tuple[str, ...] = (),
    unmask: tuple[str, ...] = (),
) -> Secrets:
    return find_secrets(variables or {}, parameters or {}, declared, Rules(mask, unmask))


SECRET_NAMES = """
    AWS_SECRET_ACCESS_KEY PGPASSWORD MYSQL_PWD DB_PASS GITHUB_TOKEN githubToken api-key apiKey API_KEY
    OPENAI_API_KEY STRIPE_SECRET PRIVATE_KEY SSH_PASSPHRASE PREFECT__CONTEXT__SECRETS__DB
    AZURE_STORAGE_CONNECTION_STRING SENTRY_DSN
    AZURE_STORAGE_KEY NPM_AUTH PREFECT_API_AUTH_STRING GOOGLE_CREDENTIALS SLACK_WEBHOOK_URL"""
OTHER_NAMES = "PATH HOME PWD OLDPWD TOKENIZERS_DIR KEYBOARD SORT_KEY COMPASS AUTHOR PASSENGERS MONKEY USER"
COMMON_VALUES = """
    true False YES no on off none null prod production Production main master dev development test
    testing staging stage qa uat release latest 12345 1234567 -123456 3.14159 short 12.5"""


@pytest.mark.parametrize("name", SECRET_NAMES.split())
def test_names_of_secrets(name: str) -> None:
    assert found({name: "correct-horse"}) == Secrets((name,), ("correct-horse",))
    assert found(parameters={name: "correct-horse"}).names == (name,)


@pytest.mark.parametrize("name", OTHER_NAMES.split())
def test_other_names(name: str) -> None:
    assert found({name: "correct-horse"}) == Secrets((), ())


@pytest.mark.parametrize("value", COMMON_VALUES.split())
def test_common_values_are_not_masked(value: str) -> None:
    assert found({"DEPLOY_TOKEN_REQUIRED": value, "DB_PASSWORD": value}) == Secrets((), ())


@pytest.mark.parametrize("value", ["12345678", "123456789012", "abc123", "prod-db-1", "mainframe", "true-story"])
def test_values_that_only_look_a_little_like_common_ones_are(value: str) -> None:
    assert found({"DB_PASSWORD": value}).values == (value,)


def test_the_settings_beat_everything() -> None:
    variables = {"STAGE": "prod", "CUSTOMER_ID": "77", "DB_PASSWORD": "correct-horse", "API_TOKEN": "abcdefgh"}
    chosen = found(variables, mask=("stage", "CUSTOMER_*"), unmask=("DB_*",))
    assert chosen == Secrets(("API_TOKEN", "CUSTOMER_ID", "STAGE"), ("77", "abcdefgh", "prod"))
    assert found(variables, mask=("DB_PASSWORD",), unmask=("*",)).names == ("DB_PASSWORD",)


def test_blanks_and_newlines_around_a_value_make_no_difference() -> None:
    assert found({"A_TOKEN": " correct-horse \n"}).values == (" correct-horse ", " correct-horse \n", "correct-horse")
    assert found({"A_TOKEN": "prod\n"}).values == ()


def test_declared_variables_are_secrets_whatever_they_are_called() -> None:
    assert found({"PLAIN": "correct-horse"}, declared=("PLAIN",)).names == ("PLAIN",)
    assert found({"PLAIN": "correct-horse"}, declared=("PLAIN",), unmask=("PLAIN",)).names == ()


def test_passwords_within_addresses_are_secrets_and_the_rest_of_the_address_is_not() -> None:
    assert found({"DATABASE_URL": "postgres://app:cor%21rect-horse@db:5432/x"}) == Secrets(
        ("DATABASE_URL",), ("cor!rect-horse", "cor%21rect-horse")
    )
    assert found({"AUTH_STRING": "admin:correct-horse"}).values == ("admin:correct-horse", "correct-horse")
    assert found({"HTTP_PROXY": "http://proxy:3128", "X": "ftp://user@host/a:b@c"}) == Secrets((), ())


def test_parameters_are_looked_through_at_any_depth() -> None:
    parameters = {
        "db": {"host": "db.example.org", "password": "correct-horse"},
        "tokens": ["abcdefgh", {"id": "ijklmnop"}],
    }
    assert found(parameters=parameters).values == ("abcdefgh", "correct-horse", "ijklmnop")
    assert found(parameters={"pin_password": 12345678, "other": 87654321}).values == ("12345678",)


def test_a_key_file_in_a_variable_is_masked_whole_and_by_its_secret_parts() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\n"
    document = json.dumps({"type": "service_account", "project_id": "my-project", "private_key": key})
    values = found({"GOOGLE_CREDENTIALS": document}).values
    assert {"MIIEvQIBADANBgkq", "hkiG9w0BAQEFAASC", document} <= set(values)
    assert not {"my-project", "service_account", "-----END PRIVATE KEY-----"} & set(values)


@pytest.mark.parametrize("text", ["y", "://", "a:"])
def test_long_values_are_found_and_masked(text: str) -> None:
    """Within the time limit of a test: a search that is quadratic in the length would take many minutes."""
    value = text * (64 * 1024 // len(text)) + "x"
    values = found({"A_TOKEN": value}, {"x": value}).values
    assert Mask(values).text(f"< {value} >") == "< *** >"


def test_the_notice_names_what_is_masked_and_never_a_value() -> None:
    assert masked_notice(("A", "B")) == "values of these are replaced by *** in this log: A, B"
    assert masked_notice([f"N{n}" for n in range(40)], most=2).endswith(": N0, N1 and 38 more")
