"""The agent's token for a cloud backend, which must be set before the first request."""

from __future__ import annotations

from flowherd.config.settings import Settings
from flowherd.errors import NotAuthorized


def require_cloud_token(settings: Settings) -> bool:
    """Return whether the backend is a cloud, whose token is to be checked. Raises NotAuthorized if none is set."""
    if settings.backend != "cloud":
        return False
    if not settings.cloud.agent.auth_token:
        raise NotAuthorized("no agent token: set PREFECT__CLOUD__AGENT__AUTH_TOKEN or auth_token under [cloud.agent]")
    return True
