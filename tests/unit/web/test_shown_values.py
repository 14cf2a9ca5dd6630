"""What a page shows of parameters: never the value of a name that sounds like a secret."""

from __future__ import annotations

from typing import Any

import pytest

from flowherd.web.shown_values import DOTS, masked_text, shown_value


@pytest.mark.parametrize(
    ("name", "value", "text", "is_masked"),
    [
        ("target", "/srv/data", '"/srv/data"', False),
        ("keep_days", 14, "14", False),
        ("token", "abc", DOTS, True),
        ("apiKey", 12345, DOTS, True),
        ("token", None, "null", False),
        ("use_token", True, "true", False),
        ("db", {"host": "a", "password": "b"}, f'{{"host": "a", "password": "{DOTS}"}}', True),
        ("secrets", ["a", "b"], DOTS, True),
        ("source", "https://me:hunter2@host/x", f'"https://me:{DOTS}@host/x"', True),
        ("text", "übung", '"übung"', False),
    ],
)
def test_values_of_secrets_are_replaced(name: str, value: Any, text: str, is_masked: bool) -> None:
    assert shown_value(name, value) == (text, is_masked)


def test_a_value_that_is_too_deep_to_look_through_is_not_shown() -> None:
    value: Any = "hidden"
    for _ in range(40):
        value = [value]
    assert "hidden" not in shown_value("nested", value)[0]


def test_a_password_that_is_also_elsewhere_in_the_address_is_replaced_where_it_is_one() -> None:
    assert masked_text("x://u:http@http/http") == f"x://u:{DOTS}@http/http"
