"""Checks who may use the embedded server, and so run commands as the agent's user."""

from __future__ import annotations

import os
from collections.abc import Iterator

from flowherd.backends.discovery import is_left_to_embedded_server
from flowherd.cli.agent.isolation_tokens import isolates
from flowherd.cli.doctor.finding import Finding, ok, warn
from flowherd.config import LoadedSettings
from flowherd.private_directory import user_name


def check_access(loaded: LoadedSettings) -> Iterator[Finding]:
    """Check whether the embedded server has a token; nothing if the settings name another API."""
    if loaded.settings.backend_name != "graphql" or not is_left_to_embedded_server(loaded):
        return
    if loaded.settings.server.token:
        origin = loaded.origins["server.token"]
        yield ok("server token", f"clients of the embedded server must send the token from {origin}")
        return
    uid = os.geteuid()
    detail = f"none is set: every user of this host may run commands as {user_name(uid)} through the embedded server"
    advice = "`flowherd server --new-token` makes one; start server and agents again: docs/security.md"
    is_warned = uid == 0 or isolates(loaded.settings)
    yield warn("server token", detail, advice) if is_warned else ok("server token", f"{detail}; {advice}")
