"""Makes Prefect's clients retry a run's requests while its server does not answer, also the first ones."""

import importlib
from typing import Any

#: Attribute of a client: whether it was ever answered; until then it gives up at the first refused connection.
_ANSWERED = "_has_connected"
_CLIENTS = ("PrefectHttpxSyncClient", "PrefectHttpxAsyncClient")


def retry_first_requests() -> None:
    """Make this process's clients assume that their address is right.

    Prefect gives up early at first, to detect wrong addresses. That of a claimed run is right, because the claim was
    made there. So a server that is restarted while a run begins only delays that run.
    """
    module: Any = importlib.import_module("prefect.client.base")
    for name in _CLIENTS:
        client = getattr(module, name, None)
        if client is not None:
            setattr(client, _ANSWERED, property(_yes, _ignore))


def _yes(client: Any) -> bool:
    return True


def _ignore(client: Any, value: bool) -> None:
    """Ignore what the client sets."""
