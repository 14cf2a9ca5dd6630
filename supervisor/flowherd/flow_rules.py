"""The rules of a flow: how many of its runs may be under way at once, which missed runs are made up for, when a failed
run is tried again, and whether a silent one counts as stuck.

`flowherd register` writes them into the flow's document under the key "flowherd". flowherd's own server keeps them in
flow.settings under the same key, gives each new run a copy, and decides by that copy. A flow without the key has
`NO_RULES`, which is how flows of release 0.1.0 and of Prefect's clients behave.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from flowherd.states import RunState
from flowherd_runner.contract import reasons

#: Key of the rules in a flow's document and in its settings.
RULES_KEY = "flowherd"
#: What the message of a skipped run has in it if the run was not made up for.
NOT_MADE_UP = "(catch-up: "
#: Maximum number of retries, and of runs of one flow that may be under way at once.
MOST_RETRIES, MOST_RUNNING = 1000, 100_000
#: Longest pause before the next attempt, seconds.
LONGEST_DELAY_S = 86_400.0


class Overlap(str, Enum):
    """What happens to a run that is due while as many runs of its flow are under way as may be."""

    #: It starts all the same, or waits if `max_running` is reached.
    ALLOW = "allow"
    #: It is skipped.
    SKIP = "skip"
    #: It waits, unless one waits already; then it is skipped.
    QUEUE = "queue"
    #: The oldest one is cancelled, and it starts when that has ended.
    REPLACE = "replace"


class CatchUp(str, Enum):
    """Which runs of a schedule still run if they could not be started at their time."""

    NONE = "none"
    #: Only the latest one.
    LAST = "last"
    ALL = "all"


#: Causes of a bad end by the reasons that agents report; the others are never tried again.
_CAUSES = {
    reasons.REASON_EXITED: "failed",
    reasons.REASON_EXCEPTION: "failed",
    reasons.REASON_NOT_STARTED: "failed",
    reasons.REASON_PROCESSES: "failed",
    reasons.REASON_TIMEOUT: "timeout",
    reasons.REASON_OOM: "oom",
    reasons.REASON_MEMORY: "oom",
    reasons.REASON_SIGNAL: "signal",
    reasons.REASON_TERMINATED: "signal",
    reasons.REASON_LOST: "lost",
    reasons.REASON_REBOOT: "lost",
    reasons.REASON_LOST_CONTACT: "lost",
}
#: Causes by their names in `retry_on`, beside "exit:N".
CAUSES = tuple(sorted(set(_CAUSES.values())))
DEFAULT_RETRY_ON = ("failed", "timeout", "oom", "signal")
_EXIT = re.compile(r"exit:([0-9]{1,3})")


@dataclass(frozen=True, kw_only=True)
class FlowRules:
    """The rules of one flow."""

    overlap: Overlap = Overlap.ALLOW
    catch_up: CatchUp = CatchUp.ALL
    #: Maximum number of runs that are under way at once; None for any number, or for one unless overlap is "allow".
    max_running: int | None = None
    #: Number of attempts after the first one, and the pause before the first of them, seconds.
    retries: int = 0
    retry_delay_s: float = 0.0
    #: What each further pause is multiplied by.
    retry_backoff: float = 1.0
    #: Causes after which a run is tried again: some of `CAUSES`, or "exit:N" for one exit code.
    retry_on: tuple[str, ...] = DEFAULT_RETRY_ON
    #: Whether a run that writes nothing and uses no processor counts as stuck (story/stuck.py) never: it may wait.
    never_stuck: bool = False

    @property
    def limit(self) -> int | None:
        """How many runs of the flow may be under way at once; None for any number."""
        if self.max_running is not None:
            return self.max_running
        return None if self.overlap is Overlap.ALLOW else 1

    def concerns(self, *, auto_scheduled: bool) -> bool:
        """Return whether anything here can matter to a run, which a schedule has created or not."""
        return self.limit is not None or self.retries > 0 or (auto_scheduled and self.catch_up is not CatchUp.ALL)

    def tries_again_after(self, state: RunState, reason: str | None, exit_code: int | None) -> bool:
        """Return whether a run is tried again that ended badly in `state`, for this reason, with this exit code."""
        unnamed = "timeout" if state is RunState.TIMED_OUT else "failed"
        cause = unnamed if reason is None else _CAUSES.get(reason, "")
        return cause in self.retry_on or (reason == reasons.REASON_EXITED and f"exit:{exit_code}" in self.retry_on)

    def delay_s(self, attempt: int) -> float:
        """Return the pause after attempt number `attempt`, counted from 1, seconds."""
        try:
            return min(self.retry_delay_s * self.retry_backoff ** (attempt - 1), LONGEST_DELAY_S)
        except OverflowError:
            return LONGEST_DELAY_S

    def as_json(self) -> dict[str, Any]:
        """Return the rules as a JSON object: overlap and catch-up, and what else is not as in `NO_RULES`."""
        changed = {name: value for name, value in vars(self).items() if value != getattr(NO_RULES, name)}
        changed = {name: list(value) if isinstance(value, tuple) else value for name, value in changed.items()}
        return {**changed, "overlap": self.overlap.value, "catch_up": self.catch_up.value}

    def in_words(self, usual: FlowRules | None = None) -> list[str]:
        """Return for people what is not as in `usual`, by default `NO_RULES`: "at most 2 at once", "overlap: skip"."""
        usual, words = usual or NO_RULES, []
        if self.max_running is not None:
            words.append(f"at most {self.max_running} at once")
        if self.overlap is not usual.overlap:
            words.append(f"overlap: {self.overlap.value}")
        if self.catch_up is not usual.catch_up:
            words.append(f"catch-up: {self.catch_up.value}")
        if self.retries:
            words.append(self._retries_in_words())
        if self.never_stuck:
            words.append("never stuck")
        return words

    def _retries_in_words(self) -> str:
        times = "one retry" if self.retries == 1 else f"up to {self.retries} retries"
        apart = f" after {self.retry_delay_s:g} s" if self.retry_delay_s else ""
        longer = (
            f", each further pause {self.retry_backoff:g} times as long" if self.retry_backoff != 1 and apart else ""
        )
        causes = "" if self.retry_on == DEFAULT_RETRY_ON else f" (on {', '.join(self.retry_on)})"
        return f"{times}{apart}{longer}{causes}"


NO_RULES = FlowRules()
#: What a flow that is registered now has unless it says otherwise.
DEFAULT_RULES = FlowRules(catch_up=CatchUp.LAST)


def read_rules(value: Any) -> FlowRules:
    """Return the rules that a JSON object describes; null for none. Unknown keys are ignored.

    Raises ValueError, which names the key, if a value is not allowed.
    """
    if value is None:
        return NO_RULES
    if not isinstance(value, Mapping):
        raise ValueError("must be an object")
    return FlowRules(
        overlap=_word(value, "overlap", Overlap, NO_RULES.overlap),
        catch_up=_word(value, "catch_up", CatchUp, NO_RULES.catch_up),
        max_running=None if value.get("max_running") is None else _count(value, "max_running", 1, MOST_RUNNING),
        retries=_count(value, "retries", 0, MOST_RETRIES),
        retry_delay_s=_number(value, "retry_delay_s", 0.0, LONGEST_DELAY_S, NO_RULES.retry_delay_s),
        retry_backoff=_number(value, "retry_backoff", 1.0, 1000.0, NO_RULES.retry_backoff),
        retry_on=_retry_on(value.get("retry_on")),
        never_stuck=_switch(value, "never_stuck"),
    )


def check_cause(name: str) -> str | None:
    """Return what is wrong with a cause in `retry_on`; None if nothing is."""
    code = _EXIT.fullmatch(name)
    if name in CAUSES or (code is not None and 1 <= int(code[1]) <= 255):
        return None
    return f"{name!r} is no cause; there are {', '.join(CAUSES)} and exit:N, with an exit code from 1 to 255"


def _retry_on(value: Any) -> tuple[str, ...]:
    if value is None:
        return DEFAULT_RETRY_ON
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(name, str) for name in value):
        raise ValueError("retry_on must be a list of texts")
    for complaint in map(check_cause, value):
        if complaint is not None:
            raise ValueError(f"retry_on: {complaint}")
    return tuple(value)


def _word(value: Mapping[str, Any], name: str, kind: Any, default: Any) -> Any:
    given = value.get(name)
    if given is None:
        return default
    try:
        return kind(given)
    except ValueError:
        raise ValueError(f"{name} must be one of {', '.join(word.value for word in kind)}") from None


def _switch(value: Mapping[str, Any], name: str) -> bool:
    given = value.get(name)
    if given is not None and not isinstance(given, bool):
        raise ValueError(f"{name} must be true or false")
    return bool(given)


def _count(value: Mapping[str, Any], name: str, least: int, most: int) -> int:
    given = value.get(name)
    if given is None:
        return least
    if not isinstance(given, int) or isinstance(given, bool) or not least <= given <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}")
    return given


def _number(value: Mapping[str, Any], name: str, least: float, most: float, default: float) -> float:
    given = value.get(name)
    if given is None:
        return default
    is_number = isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)
    if not is_number or not least <= given <= most:
        raise ValueError(f"{name} must be a number from {least:g} to {most:g}")
    return float(given)
