"""A run's requests are tried again while its server is away, the first one too."""

import importlib
from typing import Any

#: What a client of Prefect remembers of having been answered; until then it gives up at the first refused connection.
_ANSWERED = "_has_connected"
_CLIENTS = ("PrefectHttpxSyncClient", "PrefectHttpxAsyncClient")


def from_the_beginning() -> None:
    """Have this process's clients take their address for a good one.

    Prefect's haste at the beginning finds wrong addresses. A claimed run's is right: the claim was made there. So a
    server that is restarted in the moment at which a run begins costs that run nothing but time.
    """
    module: Any = importlib.import_module("prefect.client.base")
    for name in _CLIENTS:
        client = getattr(module, name, None)
        if client is not None:
            setattr(client, _ANSWERED, property(_yes, _leave))


def _yes(client: Any) -> bool:
    return True


def _leave(client: Any, value: bool) -> None:
    """What the client itself notes makes no difference."""
