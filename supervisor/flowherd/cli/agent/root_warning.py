"""The warning of an agent that runs as root and takes runs from a server that needs no token."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowherd.config import LoadedSettings


#: Backends that take runs from an HTTP API; who may use a backend of a user's own is not known here.
_WITH_API = ("graphql", "prefect3")


def root_warning(loaded: LoadedSettings) -> str:
    """Return the warning; empty for other users, and if anything is set by which the API could know this agent."""
    settings = loaded.settings
    api = settings.prefect3 if settings.uses_work_pool else settings.cloud
    tokens = (
        [settings.prefect3.api_key, settings.prefect3.auth_string]
        if settings.uses_work_pool
        else [settings.cloud.agent.auth_token]
    )
    is_added = settings.backend_name not in _WITH_API
    if is_added or os.geteuid() != 0 or any(tokens) or api.custom_headers or api.client_cert:
        return ""
    way_out = "" if settings.uses_work_pool else "; `flowherd server --new-token` makes a token for the embedded server"
    return (
        "This agent runs as root and its API has no token: anybody who can reach the API, on its own host every user, "
        f"may run commands here as root{way_out}"
    )
