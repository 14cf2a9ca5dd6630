"""Which due run is offered to which agent."""

from __future__ import annotations

import pytest

from flowherd_server.offers import HINT_S, MOST_OFFERS, DueRun, OfferBook

LABELS = ("a",)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(clock: Clock) -> OfferBook:
    return OfferBook(clock)


def due(*names: str, version: int = 1) -> list[DueRun]:
    return [DueRun(name, version, LABELS) for name in names]


def many(count: int) -> list[DueRun]:
    return due(*(f"run{number}" for number in range(count)))


def test_a_run_that_was_offered_to_one_agent_is_not_offered_to_another(book: OfferBook) -> None:
    assert book.ask("one", LABELS, None, due("x")) == ["x"]
    assert book.ask("two", LABELS, None, due("x", "y")) == ["y"]
    assert book.ask("one", LABELS, None, due("x", "y")) == ["x"]


def test_no_more_is_offered_than_there_is_room_and_than_one_answer_takes(book: OfferBook) -> None:
    assert book.ask("one", LABELS, 2, many(5)) == ["run0", "run1"]
    assert len(book.ask("two", LABELS, None, many(3 * MOST_OFFERS))) == MOST_OFFERS


def test_what_is_due_is_shared_evenly_with_the_agents_that_have_nothing_yet(book: OfferBook) -> None:
    names = ("one", "two", "three", "four")
    for name in names:
        book.ask(name, LABELS, None, ())
    shares = [book.ask(name, LABELS, None, many(60)) for name in names]
    assert [len(share) for share in shares] == [15, 15, 15, 15]
    assert len({run_id for share in shares for run_id in share}) == 60


@pytest.mark.parametrize("other", [("full", LABELS, 0), ("stranger", ("b",), None)])
def test_agents_that_cannot_take_it_have_no_share(
    book: OfferBook, other: tuple[str, tuple[str, ...], int | None]
) -> None:
    book.ask(*other, ())
    assert len(book.ask("one", LABELS, None, many(10))) == 10


def test_an_agent_that_was_not_heard_of_for_long_has_no_share(book: OfferBook, clock: Clock) -> None:
    book.ask("gone", LABELS, None, ())
    clock.now_s += 60
    assert len(book.ask("one", LABELS, None, many(10))) == 10


def test_an_offer_that_is_not_taken_passes_on_to_others_and_then_to_all(book: OfferBook, clock: Clock) -> None:
    book.ask("one", LABELS, None, due("x"))
    book.ask("two", LABELS, 0, ())
    clock.now_s += HINT_S - 0.1
    assert book.lapse() == []
    clock.now_s += 0.1
    assert [(each.run.run_id, each.holder) for each in book.lapse()] == [("x", "one")]
    book.ask("two", LABELS, None, ())
    assert book.ask("one", LABELS, None, due("x")) == []
    assert book.ask("two", LABELS, None, due("x")) == ["x"]
    clock.now_s += HINT_S
    assert [(each.run.run_id, each.holder) for each in book.lapse()] == [("x", "two")]


def test_what_nobody_else_can_take_is_offered_to_the_same_agent_again(book: OfferBook, clock: Clock) -> None:
    book.ask("one", LABELS, None, due("x"))
    clock.now_s += HINT_S
    book.lapse()
    assert book.ask("one", LABELS, None, due("x")) == ["x"]


def test_a_run_that_was_claimed_passes_on_to_nobody(book: OfferBook, clock: Clock) -> None:
    book.ask("one", LABELS, None, due("x"))
    book.taken(["x"])
    assert book.ask("two", LABELS, None, due("x")) == []  # two has read it just before it was claimed
    clock.now_s += HINT_S
    assert book.lapse() == []
    assert book.next_lapse_s() is None


def test_an_agent_that_declines_or_leaves_gives_back_what_it_was_offered(book: OfferBook) -> None:
    book.ask("one", LABELS, None, due("x"))
    assert [each.run.run_id for each in book.decline("one", LABELS)] == ["x"]
    assert book.ask("two", LABELS, None, due("x")) == ["x"]
    assert [each.run.run_id for each in book.leave("two")] == ["x"]
    assert book.ask("three", LABELS, None, due("x")) == ["x"]


def test_what_an_agent_is_not_offered_again_is_free_unless_it_is_claiming_it(book: OfferBook) -> None:
    book.ask("one", LABELS, 2, due("x", "y"))
    assert book.ask("one", LABELS, 1, due("w"), busy=["y"]) == ["w"]
    assert book.ask("two", LABELS, None, due("w", "x", "y")) == ["x"]


def test_due_runs_go_in_turn_to_the_agents_that_wait_and_have_room(book: OfferBook) -> None:
    for name in ("one", "two"):
        book.ask(name, LABELS, 1, ())
        book.begin_wait(name, LABELS, 1)
    book.begin_wait("stranger", ("b",), None)
    assert [book.assign(run) for run in due("x", "y", "z")] == ["one", "two", None]
    book.end_wait("one")
    assert book.ask("one", LABELS, 1, due("x", "y", "z")) == ["x"]


def test_an_agent_that_lets_offers_lapse_is_given_no_more_until_it_is_heard_of(book: OfferBook, clock: Clock) -> None:
    book.begin_wait("stopped", LABELS, None)
    assert book.assign(*due("x")) == "stopped"
    clock.now_s += HINT_S
    book.lapse()
    assert book.assign(*due("y")) is None
    book.ask("stopped", LABELS, None, ())
    assert book.assign(*due("z")) == "stopped"


def test_a_run_that_is_due_again_is_offered_anew(book: OfferBook) -> None:
    book.ask("one", LABELS, None, due("x"))
    book.taken(["x"])
    book.begin_wait("two", LABELS, None)
    assert book.assign(*due("x", version=3)) == "two"


def test_a_run_that_an_agent_asked_for_before_it_was_announced_stays_with_that_agent(book: OfferBook) -> None:
    book.ask("one", LABELS, None, due("x", "y"))
    book.begin_wait("two", LABELS, None)
    book.taken(["x"])
    assert [book.assign(run) for run in due("x", "y")] == ["", ""]


def test_only_what_others_are_offered_is_left_out_of_the_search(book: OfferBook) -> None:
    book.ask("one", LABELS, None, due("x"))
    book.ask("two", LABELS, None, due("y"))
    book.ask("three", LABELS, None, due("z"))
    book.taken(["z"])
    unavailable, most = book.before_asking("one", 2)
    assert (unavailable, most) == (["y"], 8)
