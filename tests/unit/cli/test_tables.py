"""The tables of list commands: which columns fit, what is cut and how, and that nothing is cut in a pipe."""

from __future__ import annotations

import random
import re

import pytest

from flowherd.cli.failures import CommandError
from flowherd.cli.tables import Column, Cut, chosen, sorted_by, state_style, table_lines
from flowherd.cli.tables.cells import cut_end, cut_middle, width_of

Row = dict[str, str]


def column(title: str, cut: Cut = Cut.NEVER, *, rank: int = 1, least: int = 8, best: int = 24) -> Column[Row]:
    return Column(title, lambda row: row.get(title, ""), cut=cut, rank=rank, least=least, best=best)


COLUMNS = (
    Column[Row]("ID", lambda row: row["ID"][:8], full=lambda row: row["ID"], rank=1),
    Column[Row]("STATE", lambda row: row["STATE"], rank=1, style=state_style),
    column("FLOW", Cut.MIDDLE),
    column("NAME", Cut.MIDDLE, rank=2),
    column("AGENT", Cut.MIDDLE, rank=4),
    column("TIME"),
    column("SAYS", Cut.END, rank=3, least=12, best=40),
)


def row(**cells: str) -> Row:
    return {"ID": "c5512ef7-0000-4000-8000-000000000001", "STATE": "Running", "FLOW": "price-feed", **cells}


LONG = row(
    FLOW="f" * 100 + "F" * 100, NAME="n" * 100 + "N" * 100, TIME="3h51m", SAYS=("no such column: " * 20).rstrip()
)


@pytest.mark.parametrize("width", [80, 120, 200])
def test_long_names_take_no_other_column_away_and_a_row_is_one_line(width: int) -> None:
    title, *lines = table_lines(COLUMNS, [LONG, row(NAME="short", TIME="48s", SAYS="ok")], width)
    assert title.split() == ["ID", "STATE", "FLOW", "NAME", "TIME", "SAYS"]  # AGENT is empty in all rows
    assert [line.split()[0] for line in lines] == ["c5512ef7", "c5512ef7"]
    assert all(width_of(line) <= width for line in [title, *lines])
    assert re.search(r" f+…F+ .* n+…N+ .*3h51m", lines[0]), "both ends of a name stay"
    assert lines[0].startswith("c5512ef7  Running  ")
    assert " short " in lines[1] and "48s" in lines[1]


def test_columns_go_by_rank_as_wholes_and_the_least_is_printed_where_nothing_fits() -> None:
    rows = [row(NAME="amber-finch", TIME="3h51m", SAYS="page 118 of 240", AGENT="edge-07")]
    shown = {width: table_lines(COLUMNS, rows, width)[0].split() for width in (10, 46, 60, 80, 120)}
    assert shown[10] == ["ID", "STATE", "FLOW", "TIME"]
    assert shown[46] == ["ID", "STATE", "FLOW", "NAME", "TIME"]
    assert shown[60] == ["ID", "STATE", "FLOW", "NAME", "TIME", "SAYS"]
    assert shown[80] == ["ID", "STATE", "FLOW", "NAME", "AGENT", "TIME", "SAYS"]
    assert shown[120] == shown[80]


def test_in_a_pipe_nothing_is_cut_or_dropped_and_no_line_ends_in_blanks() -> None:
    title, line, short = table_lines(COLUMNS, [LONG, row()], None)
    assert title.split() == ["ID", "STATE", "FLOW", "NAME", "AGENT", "TIME", "SAYS"]
    assert LONG["FLOW"] in line and LONG["NAME"] in line and LONG["ID"] in line
    assert line.endswith(LONG["SAYS"])
    assert short == short.rstrip()


def test_texts_of_others_stay_on_their_line_and_control_nothing() -> None:
    lines = table_lines(COLUMNS, [row(NAME="a\nb\x1b[31m", SAYS="\u202eabc")], 80)
    assert len(lines) == 2
    assert "\x1b" not in lines[1] and "\u202e" not in lines[1] and r"a\nb" in lines[1]


def test_colours_go_around_the_word_and_change_no_width() -> None:
    plain, coloured = (
        table_lines(COLUMNS, [row(STATE="Failed \u00d73", TIME="1s")], 80, coloured=c) for c in (False, True)
    )
    assert "\x1b[1;31mFailed \u00d73\x1b[0m" in coloured[1]
    assert [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in coloured] == plain


@pytest.mark.parametrize(
    "text", ["warehouse-history-backfill-central-1", "日本語のフロー名前がとても長い", "e\u0301" * 40]
)
def test_a_cut_text_is_never_wider_than_its_column(text: str) -> None:
    for width in range(2, width_of(text) + 2):
        for cut in (cut_end, cut_middle):
            assert width_of(cut(text, width)) <= width
            assert ("…" in cut(text, width)) == (width < width_of(text))


def test_a_sentence_is_cut_between_words() -> None:
    assert cut_end("No output and no CPU for 42 min", 18) == "No output and no…"
    assert cut_end("No output and no CPU for 42 min", 17) == "No output and no…"
    assert cut_end("x" * 40, 10) == "x" * 9 + "…"
    words = "ab cd efg hij kl mn opq rst uv wx yz"
    for width in range(8, 36):
        kept = cut_end(words, width).removesuffix("…")
        assert words.startswith(f"{kept} "), "no word is broken"


def test_rows_are_sorted_by_any_column_and_those_without_a_value_come_last() -> None:
    rows = [row(NAME=name) for name in ("b", "", "c", "a")]
    random.Random(1).shuffle(rows)
    assert [found["NAME"] for found in sorted_by(COLUMNS, "name", rows)] == ["a", "b", "c", ""]
    assert [found["NAME"] for found in sorted_by(COLUMNS, "-name", rows)] == ["c", "b", "a", ""]
    with pytest.raises(CommandError, match=r"--sort 'nam' is no column; the columns are id, state, flow"):
        sorted_by(COLUMNS, "nam", rows)


def test_fields_choose_columns_in_the_order_in_which_they_are_named() -> None:
    assert [one.title for one in chosen(COLUMNS, "name, id")] == ["NAME", "ID"]
    assert chosen(COLUMNS, None) is COLUMNS
    with pytest.raises(CommandError, match="--fields 'x' is no column"):
        chosen(COLUMNS, "id,x")
