"""Secret values are replaced in text."""

from __future__ import annotations

from flowherd_runner.masking import Mask


def test_every_place_of_every_value_is_masked() -> None:
    mask = Mask(["secret", "token"])
    assert mask.line(b"secret token secrettoken") == b"*** *** ******"
    assert mask.text("a secret\nand a token") == "a ***\nand a ***"


def test_a_value_that_contains_another_leaves_no_rest() -> None:
    assert Mask(["pass", "password", "sword"]).line(b"my password") == b"my ***"


def test_short_values_are_no_secrets() -> None:
    mask = Mask(["abc", ""])
    assert not mask
    assert mask.line(b"abc") == b"abc"


def test_a_value_of_several_lines_is_found_line_by_line() -> None:
    mask = Mask(["first line\nsecond line"])
    assert mask.line(b"> first line") == b"> ***"
    assert mask.text("first line\nsecond line!") == "***!"


def test_bytes_of_any_encoding_are_masked() -> None:
    assert Mask(["gr\u00fc\u00df-gott"]).line("x gr\u00fc\u00df-gott".encode()) == b"x ***"
