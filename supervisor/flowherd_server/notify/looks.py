"""What the server looks for now and then."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from flowherd.notify.changes import Look
from flowherd.notify.kinds import Kind
from flowherd_server.notify.agent_looks import look_for_absent_agents, look_for_full_disks, look_for_unsent_output
from flowherd_server.notify.found import Around, Found
from flowherd_server.notify.run_looks import look_at_running_runs, look_for_late_runs

_LOOKS: Mapping[Kind, Callable[[Around, Found], None]] = {
    Kind.LATE: look_for_late_runs,
    Kind.STUCK: look_at_running_runs,
    Kind.NEAR_LIMIT: look_at_running_runs,
    Kind.AGENT_AWAY: look_for_absent_agents,
    Kind.DISK: look_for_full_disks,
    Kind.SPOOL: look_for_unsent_output,
}
#: Kinds that a look can find.
LOOKED_FOR = frozenset(_LOOKS)
#: What is known of runs and agents only once they have reported after a start of the server.
REPORTED = LOOKED_FOR - {Kind.LATE}


def look_for(kinds: Collection[Kind], around: Around, *, is_settled: bool) -> Look:
    """Look for these kinds. Until reports can have come in after a start, what rests on them stays as it was."""
    wanted = [kind for kind in _LOOKS if kind in kinds and (is_settled or kind not in REPORTED)]
    found = Found()
    for look in dict.fromkeys(_LOOKS[kind] for kind in wanted):
        look(around, found)
    kept = {key for key, condition in around.known.items() if condition.kind not in wanted}
    troubles = [each for each in found.troubles if each.kind in wanted]
    return Look(troubles=troubles, reliefs=found.reliefs, kept=frozenset(kept | found.kept))
