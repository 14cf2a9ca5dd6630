"""The indexes of flow runs, and the conditions of all indexes that contain only some rows.

SQLite uses such an index only for a query that states the same condition (https://sqlite.org/partialindex.html), so
queries quote these texts.
"""

from __future__ import annotations

from sqlalchemy import Index, Table, text

from flowherd.states import CLAIMABLE, RunState
from flowherd_server.store.log_codes import LOWEST_SEVERE, SEVERE_COUNTERS

#: Condition of the indexes of flow runs and task runs that wait.
WAITS = "state IN ({})".format(", ".join(f"'{state}'" for state in sorted(CLAIMABLE)))
IS_SCHEDULED = f"state = '{RunState.SCHEDULED}'"
#: Condition of the index of flow runs that wait and whose flow has rules.
HAS_RULES_AND_WAITS = f"rules IS NOT NULL AND {WAITS}"
#: Condition that a flow run is held back by its flow's rules; also one of that index.
IS_HELD = f"{HAS_RULES_AND_WAITS} AND state = '{RunState.QUEUED}' AND state_start_time IS NULL"
#: Condition that a flow run waits for its next attempt; also one of that index.
IS_TRIED_AGAIN = f"{HAS_RULES_AND_WAITS} AND state = '{RunState.RETRYING}'"
#: Condition of the index of flows whose schedule is followed.
FOLLOWS_SCHEDULE = "is_schedule_active AND NOT archived"
#: Condition of the index of log lines; those of lower levels are too many to be worth one.
IS_SEVERE = f"level >= {LOWEST_SEVERE}"


def add_flow_run_indexes(flow_run: Table) -> None:
    """Add the indexes to the table of flow runs.

    People ask for the newest runs, by one time or another: of all, of a name, of a state, of a flow.
    """
    _by_time(flow_run, "created", "scheduled_start_time", "start_time", "end_time")
    _by_time(flow_run, "created", key="name")
    _by_time(flow_run, "created", "start_time", "end_time", key="state")
    _by_time(flow_run, "created", "scheduled_start_time", "start_time", key="flow_id")
    columns = flow_run.c
    Index("flow_run_by_agent", columns.agent_id)
    # Labels are stored sorted, so equal sets of labels are equal text.
    waiting = columns.tenant_id, columns.labels, columns.state_start_time
    Index("flow_run_waiting", *waiting, sqlite_where=text(WAITS))
    Index("flow_run_scheduled", columns.flow_id, sqlite_where=text(IS_SCHEDULED))
    # What has become due since a time, and what of one flow is due.
    Index("flow_run_with_rules", columns.state_start_time, sqlite_where=text(HAS_RULES_AND_WAITS))
    of_flow = columns.flow_id, columns.state_start_time
    Index("flow_run_of_flow_with_rules", *of_flow, sqlite_where=text(HAS_RULES_AND_WAITS))
    for counter in SEVERE_COUNTERS:
        Index(f"flow_run_with_{counter}", columns.created, sqlite_where=text(f"{counter} > 0"))


def _by_time(table: Table, *times: str, key: str | None = None) -> None:
    """Add indexes for the newest rows, of all or of each value of `key`."""
    for time in times:
        name = f"{table.name}_by_{time}" if key is None else f"{table.name}_by_{key}_and_{time}"
        Index(name, *([] if key is None else [table.c[key]]), table.c[time])
