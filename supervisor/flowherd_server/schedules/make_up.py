"""Which runs of a schedule are made up for after a time in which no server has run. Pure.

Runs are created ahead of their time, so only those that come after the last of these are missing then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowherd.flow_rules import NO_RULES, RULES_KEY, CatchUp, FlowRules, read_rules
from flowherd_server.schedules.schedule import Firing, next_firings
from flowherd_server.store.microseconds import SECOND_US
from flowherd_server.store.plain import StoredRow

#: Maximum number of runs that are made up for (catch-up "all"): the latest ones.
MOST_MADE_UP = 100
#: The first stretch of time that is searched for the latest firing; each further one is as many times as long.
_FIRST_STRETCH_US = 600 * SECOND_US
_STRETCH_FACTOR = 8
#: Number of firings that are looked at in one stretch.
_AT_ONCE = 1000


def rules_of_flow(flow: StoredRow) -> FlowRules | None:
    """Return the rules of a flow; None for a flow that was registered without any."""
    value = flow["settings"].get(RULES_KEY)
    return None if value is None else read_rules(value)


def missed_firings(schedule: Mapping[str, Any], rules: FlowRules | None, after_us: int, now_us: int) -> list[Firing]:
    """Return the firings after `after_us` until now that the rules want, oldest first.

    Raises Refused if this server cannot follow the schedule.
    """
    catch_up = (NO_RULES if rules is None else rules).catch_up
    if rules is None or catch_up is CatchUp.NONE or after_us >= now_us:
        return []
    stretch_us, since_us, found = _FIRST_STRETCH_US, now_us, list[Firing]()
    wanted = MOST_MADE_UP if catch_up is CatchUp.ALL else 1
    while len(found) < wanted and since_us > after_us:
        since_us = max(after_us, now_us - stretch_us)
        firings = next_firings(schedule, since_us, _AT_ONCE)
        if len(firings) == _AT_ONCE and firings[-1].at_us <= now_us and found:
            break  # more than that, so the latest of them are those that were found before
        found = [each for each in firings if each.at_us <= now_us]
        stretch_us *= _STRETCH_FACTOR
    if catch_up is CatchUp.ALL:
        return found[-MOST_MADE_UP:]
    # Each clock with settings of its own has its own latest one.
    latest = {repr((each.parameters, each.labels)): each for each in found}
    return sorted(latest.values(), key=lambda each: each.at_us)
