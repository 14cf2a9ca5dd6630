"""The switches of a flow group: heartbeats, Lazarus, version locking.

They are stored in flow_group.settings. A flow's process reads flow.settings, so each flow of the group has a copy,
beside the flow's own rules.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select, update

from flowherd.flow_rules import RULES_KEY
from flowherd_server.call import Call
from flowherd_server.store.plain import plain
from flowherd_server.store.tables import FLOW, FLOW_GROUP

HEARTBEAT, LAZARUS, VERSION_LOCKING = "heartbeat_enabled", "lazarus_enabled", "version_locking_enabled"
_SETTINGS = "SELECT settings FROM flow WHERE id = ?"
SWITCHES = (HEARTBEAT, LAZARUS, VERSION_LOCKING)


def flow_settings(group_settings: dict[str, Any], rules: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the settings of a flow with these rules whose group has `group_settings`.

    A switch that was never set is absent and on.
    """
    switches = {name: group_settings[name] for name in SWITCHES if name in group_settings}
    return switches if rules is None else {**switches, RULES_KEY: dict(rules)}


def set_switch(call: Call, flow_group_id: str, name: str, enabled: bool) -> None:
    """Set a switch for all versions of the flow."""
    query = select(FLOW_GROUP.c.settings).where(FLOW_GROUP.c.id == flow_group_id)
    settings = {**call.connection.execute(query).scalar_one(), name: enabled}
    call.connection.execute(update(FLOW_GROUP).where(FLOW_GROUP.c.id == flow_group_id), {"settings": settings})
    flows = select(FLOW.c.id, FLOW.c.settings).where(FLOW.c.flow_group_id == flow_group_id)
    for flow_id, own in call.connection.execute(flows).all():
        changed = {"settings": flow_settings(settings, own.get(RULES_KEY)), "updated": call.now}
        call.connection.execute(update(FLOW).where(FLOW.c.id == flow_id), changed)


def is_version_locked(call: Call, flow_id: str) -> bool:
    """Return whether a report of Running must name the stored version."""
    (settings,) = plain(call.connection).execute(_SETTINGS, (flow_id,)).fetchone()
    return json.loads(settings).get(VERSION_LOCKING) is not False
