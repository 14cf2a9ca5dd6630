"""The query `schedule_times`: when a flow's schedule fires next, also if it is switched off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import GraphQLArgument, GraphQLField, GraphQLList, GraphQLNonNull
from graphql.type import GraphQLInt

from flowherd_server.errors import Refused
from flowherd_server.graphql.scalars import TABLE_TIME, UUID_INPUT
from flowherd_server.schedules.auto_runs import schedule_of
from flowherd_server.schedules.schedule import next_firings
from flowherd_server.store.microseconds import now_us
from flowherd_server.store.row_lookup import row_by_id
from flowherd_server.store.tables import FLOW

#: Maximum number of times in one answer.
MAX_ASKED = 1_000


def _schedule_times(_root: Any, info: Any, flow_id: str, count: int) -> list[int]:
    if not 1 <= count <= MAX_ASKED:
        raise Refused(f"count is {count}; it must be from 1 to {MAX_ASKED}")
    connection = info.context.connection
    schedule = schedule_of(connection, row_by_id(connection, FLOW, flow_id))
    return [] if schedule is None else [firing.at_us for firing in next_firings(schedule, now_us(), count)]


SCHEDULE_FIELDS: Mapping[str, GraphQLField] = {
    "schedule_times": GraphQLField(
        GraphQLList(GraphQLNonNull(TABLE_TIME)),
        {
            "flow_id": GraphQLArgument(GraphQLNonNull(UUID_INPUT)),
            "count": GraphQLArgument(GraphQLNonNull(GraphQLInt)),
        },
        _schedule_times,
    )
}
