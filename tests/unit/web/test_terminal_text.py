"""A line of a log is shown as a terminal would show it, and nothing in it can do more than that."""

from __future__ import annotations

import re
from html import escape
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowherd.web.terminal_text import StyledText, html_of, plain_text, terminal_text


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("plain", "plain"),
        ("10 %\r20 %\r30 %", "30 %"),
        ("abcdef\rxy", "xycdef"),
        ("windows line\r", "windows line"),
        ("99 %\r\x1b[Kdone", "done"),
        ("99 %\x1b[2K\rdone", "done"),
        ("abc\b\bX", "aXc"),
        ("one\x1b[1A\x1b[?25ltwo", "onetwo"),
        ("\x1b]0;a title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\ end", "link end"),
        ("cut \x1b[3", "cut "),
        ("bell\x07 and nul\x00", r"bell\x07 and nul\x00"),
        ("\u202egpj", r"\u202egpj"),
        ("first\rF\nsecond\rS", "First\nSecond"),
        ("tab\there", "tab\there"),
    ],
)
def test_what_a_terminal_shows(message: str, text: str) -> None:
    assert plain_text(message) == text


@pytest.mark.parametrize(
    ("message", "html"),
    [
        (
            "\x1b[1mbold\x1b[0m and \x1b[32mgreen\x1b[39m",
            '<span class="a1">bold</span> and <span class="a32">green</span>',
        ),
        ("\x1b[1;31mboth\x1b[22mred", '<span class="a1 a31">both</span><span class="a31">red</span>'),
        ("\x1b[91mbright", '<span class="a31">bright</span>'),
        ("\x1b[90mgrey", '<span class="a2">grey</span>'),
        ("\x1b[38;5;2mof 256", '<span class="a32">of 256</span>'),
        ("\x1b[38;2;1;2;3mof many", "of many"),
        ("\x1b[48;5;1mbackground", "background"),
        ("\x1b[31m<script>\x1b[m", '<span class="a31">&lt;script&gt;</span>'),
        ("\x1b[32m55 %\r\x1b[33m6", '<span class="a33">6</span><span class="a32">5 %</span>'),
    ],
)
def test_colours_and_weight_are_classes(message: str, html: str) -> None:
    assert html_of(terminal_text(message), escape) == html


def test_what_was_searched_for_is_marked_across_colours() -> None:
    styled = terminal_text("a zs\x1b[31mtd b")
    assert styled.text == "a zstd b"
    marked = html_of(styled, escape, re.compile("zstd"))
    assert marked == 'a <mark>zs</mark><mark><span class="a31">td</span></mark><span class="a31"> b</span>'


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert all(name == "class" and re.fullmatch("[a0-9 ]*", value or "") for name, value in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(st.sampled_from("ab<&\"'>\x1b[]0;138mK\r\b\n\x9b\x9d\x07\\"), max_size=40))
def test_any_line_is_text_with_spans_and_nothing_else(message: str) -> None:
    styled = terminal_text(message)
    reader = _Reader()
    reader.feed(html_of(styled, escape, re.compile("a")))
    reader.close()
    assert reader.text == styled.text
    assert reader.tags <= {"span", "mark"}
    assert "\x1b" not in styled.text


def test_a_style_covers_the_text_that_is_shown_for_a_control() -> None:
    assert terminal_text("\x1b[31m\x07\x1b[0m.") == StyledText(r"\x07.", ((0, 4, "a31"),))


@given(st.text(st.sampled_from("ab\x1b[]0;31mK\r\b\n\t\x9b\x07"), max_size=30))
def test_the_text_alone_is_that_of_the_styled_text(message: str) -> None:
    assert plain_text(message) == terminal_text(message).text
