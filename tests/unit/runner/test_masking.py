"""Secret values are replaced in text."""

from __future__ import annotations

import base64
import json
import shlex
import urllib.parse

import pytest

from flowherd_runner.masking import Mask

#: With everything that programs escape.
AWKWARD = "p@ss/w\"o'rd \u00e9+1\\z&"


def test_a_value_is_masked_where_no_letter_digit_or_underscore_touches_it() -> None:
    mask = Mask(["secret1", "main-key"])
    assert mask.line(b"secret1 (secret1) key=secret1, main-key.") == b"*** (***) key=***, ***."
    untouched = b"secret12 mysecret1 _secret1 secret1_ main-keys domain-key"
    assert mask.line(untouched) == untouched
    assert mask.text("a secret1\nand a main-key") == "a ***\nand a ***"


@pytest.mark.parametrize(
    "before", ["\\n", "\\t", "\\u001b", "\\x1b", "%3D", "%2f", "\x1b[31m", "\x1b[1;32m", "\\033[0m", "=", "\u201c", ":"]
)
def test_an_escape_sequence_is_no_letter_that_touches_the_value(before: str) -> None:
    assert Mask(["hunter22"]).text(f"x{before}hunter22 y") == f"x{before}*** y"


def test_values_that_overlap_or_contain_one_another_leave_no_rest() -> None:
    assert Mask(["pass-word", "my-pass-word-1", "word-1-and"]).line(b"my-pass-word-1-and!") == b"***!"
    assert Mask(["aaaa.bbbb", "bbbb.cccc"]).line(b"aaaa.bbbb.cccc") == b"***"
    assert Mask(["tokenA", "tokenA.tokenB12"]).line(b"tokenA.tokenB123") == b"***.tokenB123"


def test_without_values_nothing_is_masked() -> None:
    assert not Mask() and not Mask([""])
    assert Mask().line(b"abc") == b"abc" and Mask().text("abc") == "abc"


def test_values_can_be_added() -> None:
    mask = Mask(["first1"])
    mask.add(["second"])
    assert mask.text("first1 second") == "*** ***"


def test_bytes_of_any_encoding_are_masked() -> None:
    assert Mask(["gr\u00fc\u00df-gott"]).line("x gr\u00fc\u00df-gott".encode()) == b"x ***"
    latin = b"gr\xfc\xdf-gott".decode("utf-8", "surrogateescape")
    assert Mask([latin]).line(b"x gr\xfc\xdf-gott") == b"x ***"
    assert Mask([latin]).text(f"x {latin}") == "x ***"


@pytest.mark.parametrize(
    "printed",
    [
        AWKWARD,
        repr(AWKWARD),
        ascii({"password": AWKWARD}),
        repr(AWKWARD.encode()),
        json.dumps({"password": AWKWARD}),
        json.dumps({"password": AWKWARD}, ensure_ascii=False),
        json.dumps({"body": json.dumps({"password": AWKWARD})}),
        json.dumps(AWKWARD).replace("/", "\\/"),
        '{"password":"' + json.dumps(AWKWARD, ensure_ascii=False)[1:-1].replace("&", "\\u0026") + '"}',
        json.dumps(AWKWARD).replace("00e9", "00E9"),
        "password: '" + AWKWARD.replace("'", "''") + "'",
        '"' + AWKWARD.replace('"', '""') + '",1',
        "https://user:" + urllib.parse.quote(AWKWARD, safe="") + "@host/",
        "https://host/?q=" + urllib.parse.quote(AWKWARD) + "&r=1",
        urllib.parse.urlencode({"password": AWKWARD}),
        urllib.parse.quote(AWKWARD, safe="").lower(),
        "+ curl -u " + shlex.quote(AWKWARD),
        "+ curl -u '" + AWKWARD.replace("'", "'\\''") + "'",
        "<b>" + AWKWARD.replace("&", "&amp;").replace('"', "&quot;") + "</b>",
    ],
)
def test_the_forms_in_which_programs_print_a_value_are_masked(printed: str) -> None:
    masked = Mask([AWKWARD]).text(printed)
    assert "***" in masked
    assert "rd" not in masked.replace("password", "")


@pytest.mark.parametrize("before", ["", "u:", "user:", "user1:", "x-access-token:"])
@pytest.mark.parametrize("after", ["", "\n", "ab"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_base64_is_masked_alone_and_within_more(before: str, after: str, encode: object) -> None:
    secret = "correct?horse>battery~staple"
    assert callable(encode)
    header = "Authorization: Basic " + encode((before + secret + after).encode()).decode()
    masked = Mask([secret]).text(header)
    rest = masked.removeprefix("Authorization: Basic ").replace("***", "")
    assert "***" in masked
    # What is left is what stands beside the secret, and at most the bits that it shares a character with.
    assert len(rest) <= len(base64.b64encode((before + after).encode())) + 4


def test_lines_of_a_long_base64_text_are_masked() -> None:
    secret = "".join(chr(33 + n % 90) for n in range(300))
    shown = base64.encodebytes(secret.encode()).decode()
    assert set(Mask([secret]).text(shown).split()) == {"***"}


def test_a_text_that_was_cut_within_a_secret_does_not_end_with_its_beginning() -> None:
    mask = Mask(["hunter22-and-more"])
    for size in range(4, 17):
        assert mask.cut_text("hunter22-and-more is " + "hunter22-and-more"[:size]) == "*** is "
    assert mask.cut_text("xhunter22-and") == "xhunter22-and"
    assert mask.cut_text("the end") == "the end"


def test_many_values_are_one_pattern_and_all_are_found() -> None:
    values = [f"value-{n:04d}-{n * 7919 % 10007:05d}" for n in range(300)]
    mask = Mask(values)
    assert all(mask.line(b"x " + value.encode() + b" y") == b"x *** y" for value in values)
    assert mask.line(b"value-0000-") == b"value-0000-"
