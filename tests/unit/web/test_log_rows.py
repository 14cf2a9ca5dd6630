"""The rows of a log: what is linked, how levels look, and how tracebacks are folded."""

from __future__ import annotations

from datetime import datetime, timezone

from flowherd.web.log_rows import LogMarks, LogRow, rows_html, search_pattern

AT = datetime(2026, 11, 27, 2, 30, 0, 48_000, tzinfo=timezone.utc)
TRACEBACK = [
    "Traceback (most recent call last):",
    '  File "a.py", line 1, in f',
    "    g()",
    "ValueError: <b>",
]


def rows(messages: list[str], source: str = "stderr", first: int = 1, level: int = 40) -> list[LogRow]:
    return [LogRow(first + n, AT, source, level, message) for n, message in enumerate(messages)]


def test_a_row_has_its_number_as_an_address_and_shows_markup_as_text() -> None:
    (html,) = rows_html([LogRow(7, AT, "stdout", 20, "<script>alert(1)</script>")])
    assert '<div id="L7" class="r">' in html
    assert 'href="#L7"' in html
    assert f"{AT.astimezone():%H:%M}:00.048" in html
    assert "&lt;script&gt;" in html
    assert "<script>" not in html


def test_levels_and_flowherds_own_lines_have_classes() -> None:
    shown = [LogRow(1, AT, "ERROR", 40, "a"), LogRow(2, AT, "WARNING", 30, "b"), LogRow(3, AT, "flowherd", 20, "c")]
    assert [html.split('class="')[1].split('"')[0] for html in rows_html(shown)] == ["r e", "r w", "r f"]


def test_a_traceback_is_one_line_that_folds_and_names_the_exception() -> None:
    pieces = list(rows_html([*rows(["before"]), *rows(TRACEBACK, first=2), *rows(["after"], first=6)]))
    assert len(pieces) == 3
    assert pieces[1].startswith('<details class="fold"><summary class="r e">')
    assert "ValueError: &lt;b&gt; <small>traceback, 4 lines</small>" in pieces[1]
    assert all(f'id="L{number}"' in pieces[1] for number in (2, 3, 4, 5))


def test_tracebacks_of_exceptions_that_caused_each_other_are_one_fold() -> None:
    between = ["", "During handling of the above exception, another exception occurred:", ""]
    pieces = list(rows_html(rows([*TRACEBACK, *between, *TRACEBACK[:3], "KeyError: 'x'", "", "after"])))
    assert len(pieces) == 3
    assert "KeyError: &#x27;x&#x27; <small>traceback, 11 lines</small>" in pieces[0]


def test_an_exception_group_is_one_fold_and_ends_with_its_indented_lines() -> None:
    group = [
        "  + Exception Group Traceback (most recent call last):",
        '  |   File "a.py", line 1, in f',
        "  | ExceptionGroup: two (1 sub-exception)",
        "  +-+---------------- 1 ----------------",
        "    | ValueError: x",
        "    +------------------------------------",
    ]
    assert len(list(rows_html(rows([*group, "after"])))) == 2


def test_a_traceback_does_not_take_lines_of_another_stream() -> None:
    shown = [*rows(TRACEBACK[:3]), *rows(["  of stdout"], source="stdout", first=4), *rows(["x"], first=5)]
    assert len(list(rows_html(shown))) == 3


def test_a_traceback_within_a_record_folds_inside_its_row() -> None:
    (html,) = rows_html([LogRow(1, AT, "ERROR", 40, "\n".join(["it failed", *TRACEBACK]))])
    assert "it failed<details><summary>ValueError: &lt;b&gt; <small>traceback, 4 lines</small></summary>" in html


def test_a_fold_is_open_if_the_search_or_the_link_leads_into_it() -> None:
    assert "<details" in "".join(rows_html(rows(TRACEBACK)))
    for marks in (LogMarks(here=3), LogMarks(found=search_pattern("G()"))):
        (html,) = rows_html(rows(TRACEBACK), marks)
        assert html.startswith('<details class="fold" open>')


def test_the_row_that_a_search_stands_at_is_marked_and_a_cut_is_told() -> None:
    (html,) = rows_html([LogRow(3, AT, "stdout", 20, "zstd", 12_000)], LogMarks(search_pattern("ZSTD"), here=3))
    assert 'class="r here"' in html
    assert "<mark>zstd</mark>" in html
    assert "12,000 more characters" in html


def test_text_of_an_unfinished_line_has_no_number() -> None:
    (html,) = rows_html([LogRow(0, AT, "stdout", 20, " 10 %\r 20 %")])
    assert "id=" not in html
    assert "20 %" in html
