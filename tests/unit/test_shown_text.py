"""Text of others cannot control the terminal, the log file or the page that shows it."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowherd.shown_text import json_text, lines, one_line, storable, with_colours

ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def controls(text: str) -> list[str]:
    return [c for c in text if unicodedata.category(c) in ESCAPED and c not in "\u200c\u200d"]


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_no_control_is_left_in_any_text(text: str) -> None:
    assert controls(one_line(text)) == []
    assert set(controls(lines(text))) <= {"\t", "\n"}
    shown = json_text({text: [text]}, str)
    assert controls(shown) == []
    assert json.loads(shown) == {text: [text]}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x9b31m\x7f\x00", r"\x9b31m\x7f\x00"),
        ("\u202egpj\u2066\u2028", r"\u202egpj\u2066\u2028"),
        ("\ud800\U000e0041", r"\ud800\U000e0041"),
        ("[red]x[/red] \\", "[red]x[/red] \\"),
        ("\u00e9\u3000\u00a0\U0001f469\u200d\U0001f680", "\u00e9\u3000\u00a0\U0001f469\u200d\U0001f680"),
    ],
)
def test_controls_are_shown_as_python_writes_them_and_all_else_as_it_is(text: str, shown: str) -> None:
    assert one_line(text) == shown


def test_of_control_sequences_only_colours_reach_a_terminal_and_they_end_with_the_text() -> None:
    assert with_colours("\x1b[1;31mred\x1b[2J\x1b]0;t\x07") == "\x1b[1;31mred\\x1b[2J\\x1b]0;t\\x07\x1b[0m"
    assert with_colours("plain\x1b[") == "plain\\x1b["


def test_what_servers_refuse_is_escaped_before_it_is_sent() -> None:
    assert storable("a\0b\ud800c\n\x1b") == "a\\x00b\\ud800c\n\x1b"
