"""test_notification: tries the channels of notifications, on the way that each notification goes."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from graphql import GraphQLList, GraphQLNonNull
from graphql.type import GraphQLString

from flowherd.notify.message import test_notification
from flowherd_server.call import Call
from flowherd_server.errors import NOT_FOUND, Refused
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.scalars import UUID_INPUT
from flowherd_server.notify.outbox import put
from flowherd_server.notify.rules import stored_channels


def _test(call: Call, given: Input) -> Mapping[str, Any]:
    known = stored_channels(call.connection)
    wanted = given.get("channels") or known
    if not known:
        raise Refused("the settings of the server have no channels, notify.channels", NOT_FOUND)
    for name in wanted:
        if name not in known:
            raise Refused(f"there is no channel {name!r}; there are {', '.join(known)}", NOT_FOUND)
    notification = test_notification(f"the server on {socket.gethostname()}")
    put(call.connection, notification, list(dict.fromkeys(wanted)))
    call.effects.notifications = True
    return {"message_id": notification.id}


OPERATIONS = (
    Operation(
        name="test_notification",
        arguments={"channels": GraphQLList(GraphQLNonNull(GraphQLString))},
        answer={"message_id": UUID_INPUT},
        handle=_test,
        durable=False,
    ),
)
