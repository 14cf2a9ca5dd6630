"""Prefect's secrets: masked in the run's log from the moment at which the run reads them."""

import importlib
from typing import Any

from flowherd_runner.record_sender import RecordSender


def mask(sender: RecordSender) -> None:
    """Mask the secrets of Prefect's configuration and context, and each that the flow asks for.

    Those of the server are known only when `Secret.get` returns them.
    """
    prefect: Any = importlib.import_module("prefect")
    for name, value in dict(prefect.context.get("secrets") or {}).items():
        sender.mask(str(name), value)
    secret_class: Any = importlib.import_module("prefect.client.secrets").Secret
    get = secret_class.get

    def masked_get(self: Any) -> Any:
        value = get(self)
        sender.mask(str(self.name), value)
        return value

    secret_class.get = masked_get
