"""Pieces of pages: how numbers are written, what is escaped, and when a part has changed."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from flowherd.web import formats
from flowherd.web.drawings import bar, sparkline
from flowherd.web.form_tokens import FormTokens
from flowherd.web.live_parts import Parts, changes
from flowherd.web.policy import own_path
from flowherd.web.static import static_file
from flowherd_server.pages.login import COOKIE, Logins

NOW = datetime(2026, 11, 27, 14, 32, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (8.2, "8.2 s"),
        (48.4, "48 s"),
        (59.7, "1 m 00 s"),
        (751, "12 m 31 s"),
        (3599.8, "1 h 00 m"),
        (8040, "2 h 14 m"),
        (3 * 86400 + 4 * 3600, "3 d 4 h"),
    ],
)
def test_a_length_of_time_has_two_units_at_most(seconds: float, text: str) -> None:
    assert formats.duration(seconds) == text


def test_numbers_and_times_are_short() -> None:
    assert [formats.size(number) for number in (512, 307 * 2**20, 11.2 * 2**30, 2**40)] == [
        "512 B",
        "307 MiB",
        "11.2 GiB",
        "1 TiB",
    ]
    assert formats.clock(NOW, NOW) == "14:32"
    assert formats.clock(NOW - timedelta(hours=36), NOW, seconds=True) == "Thu 02:32:00"
    assert formats.clock(NOW - timedelta(days=11), NOW) == "16 Nov 14:32"
    assert [formats.until(seconds) for seconds in (172, 14280, -1560, 0)] == [
        "in 2 m 52 s",
        "in 3 h 58 m",
        "26 m ago",
        "now",
    ]


def test_a_drawing_has_a_label_that_cannot_break_it() -> None:
    drawn = bar(1.7, 'memory "<b>\n')
    assert 'aria-label="memory &quot;&lt;b&gt;\\n"' in drawn
    assert 'class="fg" width="100.0"' in drawn
    assert sparkline([1], "one value is no line") == ""
    assert "style" not in drawn + sparkline([0, 1, 2], "three")


def part(parts: Parts, id: str, content: str, into: str = "") -> None:
    parts.part(id, "tr", into=into, caller=lambda: content)


def test_only_parts_whose_content_or_place_has_changed_are_sent() -> None:
    before, now = Parts(), Parts()
    ticking = '<b data-since="2026-11-27T14:00:00+00:00">{}</b>'
    for parts, word in ((before, "1 s"), (now, "2 s")):
        part(parts, "same", ticking.format(word), "list")
    part(before, "old", "x", "list")
    part(before, "moves", "x", "list")
    part(now, "moves", "x", "other")
    part(now, "new", "x", "other")
    changed, gone = changes(before.found, now.found)
    assert list(changed) == ["moves", "new"]
    assert (changed["new"].into, changed["new"].after) == ("other", "moves")
    assert gone == ["old"]


def test_an_address_to_go_back_to_is_a_path_of_the_same_site() -> None:
    assert own_path("/runs?q=x") == "/runs?q=x"
    for foreign in ("https://a.example", "//a.example", "/\\a.example", "runs", "/a\nb", ""):
        assert own_path(foreign) == ""


def test_a_form_token_is_for_one_login_of_one_process() -> None:
    tokens = FormTokens()
    token = tokens.new("me")
    assert tokens.is_valid(token, "me")
    assert not tokens.is_valid(token, "other")
    assert not FormTokens().is_valid(token, "me")
    assert tokens.new("me") != token


def test_a_login_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    logins = Logins("s3cret")
    cookie = logins.cookie("Ada <b>", is_secure=True)
    assert cookie.endswith("; Secure")
    value = cookie.partition(";")[0].partition("=")[2]
    login = logins.login_of({COOKIE: value})
    assert login is not None
    assert login.name == "Ada <b>"
    monkeypatch.setattr("time.time", lambda: NOW.timestamp() + 10 * 365 * 86400)
    assert logins.login_of({COOKIE: value}) is None


def test_the_script_and_the_style_sheet_are_small_as_they_are_sent() -> None:
    for name, most in (("flowherd.js", 8_000), ("flowherd.css", 9_000)):
        file = static_file(name)
        assert file is not None
        assert len(file.packed) <= most, name
    assert static_file("../static.py") is None
    assert static_file("nothing.js") is None
