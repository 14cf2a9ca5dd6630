"""The options that give a flow rules: --overlap, --max-running, --catch-up, --never-stuck, and those of --retries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowherd.cli import completion, exit_codes, parse_options
from flowherd.cli.failures import CommandError
from flowherd.flow_rules import (
    DEFAULT_RULES,
    LONGEST_DELAY_S,
    MOST_RETRIES,
    MOST_RUNNING,
    RULES_KEY,
    CatchUp,
    FlowRules,
    Overlap,
    check_cause,
    read_rules,
)

if TYPE_CHECKING:
    from flowherd.client.user_client import UserClient

OverlapOption = Annotated[
    str | None,
    typer.Option(
        metavar="WHAT",
        autocompletion=completion.overlaps,
        help="If a run is due while another runs: allow (it runs too, the default), skip, queue (one waits), "
        "or replace (the other is cancelled).",
    ),
]
MaxRunningOption = Annotated[
    int | None,
    typer.Option(
        min=1, max=MOST_RUNNING, metavar="N", help="Run at most N at once; the others wait, or see --overlap."
    ),
]
CatchUpOption = Annotated[
    str | None,
    typer.Option(
        metavar="WHICH",
        autocompletion=completion.catch_ups,
        help="Which runs of the schedule still run if nobody could start them in time: none, last (the default) or "
        "all.",
    ),
]
RetriesOption = Annotated[
    int | None, typer.Option(min=0, max=MOST_RETRIES, metavar="N", help="Try a run again up to N times.")
]
RetryDelayOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="Pause before the next attempt: 30s (default: none).")
]
RetryBackoffOption = Annotated[
    float | None,
    typer.Option(min=1, max=1000, metavar="FACTOR", help="Multiply each further pause by this: 2 (default: 1)."),
]
RetryOnOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CAUSES",
        autocompletion=completion.causes,
        help="After which ends: failed, timeout, oom, signal (these are the default), lost, exit:75; with commas.",
    ),
]
NeverStuckOption = Annotated[
    bool,
    typer.Option("--never-stuck", help="Do not call a run stuck that writes nothing and uses no CPU: it may wait."),
]


@dataclass(frozen=True)
class ChosenRules:
    """The rules of a new flow, and the options that have chosen them."""

    rules: FlowRules
    options: Sequence[str]

    def document(self, client: UserClient) -> dict[str, Any]:
        """Return what is added to the flow's document: nothing for a server that does not follow rules.

        Raises CommandError if such a server is to follow some, and BackendError.
        """
        if client.follows_rules():
            return {RULES_KEY: self.rules.as_json()}
        if self.options:
            raise CommandError(
                f"{client.address} does not follow {', '.join(self.options)}: only flowherd's own server does, from "
                "release 0.2 on; register the flow there, or without these options",
                exit_codes.FAILED,
            )
        return {}


def chosen_rules(
    overlap: str | None = None,
    max_running: int | None = None,
    catch_up: str | None = None,
    retries: int | None = None,
    retry_delay: str | None = None,
    retry_backoff: float | None = None,
    retry_on: list[str] | None = None,
    never_stuck: bool = False,
) -> ChosenRules:
    """Return the rules that the options choose; None for an option that was not given. Raises CommandError."""
    given = {
        "--overlap": overlap,
        "--max-running": max_running,
        "--catch-up": catch_up,
        "--retries": retries,
        "--retry-delay": retry_delay,
        "--retry-backoff": retry_backoff,
        "--retry-on": retry_on or None,
        "--never-stuck": never_stuck or None,
    }
    options = [option for option, value in given.items() if value is not None]
    if not retries and (lonely := [option for option in options if option.startswith("--retry-")]):
        raise CommandError(f"{lonely[0]} says nothing without --retries N, N above 0", exit_codes.USAGE)
    value = {
        "overlap": _word(overlap, "--overlap", Overlap),
        "max_running": max_running,
        "catch_up": _word(catch_up, "--catch-up", CatchUp) or DEFAULT_RULES.catch_up,
        "retries": retries,
        "retry_delay_s": None if retry_delay is None else _delay_s(retry_delay),
        "retry_backoff": retry_backoff,
        "retry_on": _causes(retry_on) if retry_on else None,
        "never_stuck": never_stuck,
    }
    return ChosenRules(read_rules(value), options)


def _word(text: str | None, option: str, kind: type[Enum]) -> Any:
    words = [word.value for word in kind]
    if text is not None and text not in words:
        raise CommandError(f"{option} {text!r} is none of {', '.join(words)}", exit_codes.USAGE)
    return text


def _delay_s(text: str) -> float:
    delay_s = parse_options.duration_s(text, "--retry-delay")
    if delay_s > LONGEST_DELAY_S:
        raise CommandError(f"--retry-delay {text} is longer than a day, the longest pause", exit_codes.USAGE)
    return delay_s


def _causes(given: list[str]) -> list[str]:
    causes = [cause.strip() for text in given for cause in text.split(",")]
    for complaint in map(check_cause, causes):
        if complaint is not None:
            raise CommandError(f"--retry-on: {complaint}", exit_codes.USAGE)
    return list(dict.fromkeys(causes))
