"""The warning of an agent that runs as root and takes runs from a server that needs no token."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowherd.config import LoadedSettings


def root_warning(loaded: LoadedSettings) -> str:
    """Return the warning; empty for other users, and if anything is set by which the API could know this agent."""
    settings = loaded.settings
    api = settings.prefect3 if settings.uses_work_pool else settings.cloud
    tokens = (
        [settings.prefect3.api_key, settings.prefect3.auth_string]
        if settings.uses_work_pool
        else [settings.cloud.agent.auth_token]
    )
    if os.geteuid() != 0 or any(tokens) or api.custom_headers or api.client_cert:
        return ""
    return (
        "This agent runs as root and its API has no token: whoever can reach the API, on its own host every user, may "
        "run commands here as root; `flowherd server --new-token` makes a token for the embedded server"
    )
