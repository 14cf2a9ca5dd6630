"""One TLS context for all clients that Prefect makes in a process, and made in the fork server already.

Each client of Prefect reads the certificates of all authorities for itself, also where the API is plain HTTP: a
fiftieth of a second each time, and a run makes half a dozen clients.
"""

import importlib
import ssl
from typing import Any, Dict

from flowherd_runner.kinds.prefect3.file_stamp import Stamp, stamp

#: By the file of certificates.
_contexts: Dict[Stamp, ssl.SSLContext] = {}


class _Sharing:
    """The module ssl as Prefect's clients see it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(ssl, name)

    @staticmethod
    def create_default_context(*args: Any, **kwargs: Any) -> ssl.SSLContext:
        """The same context for the same file. One without a file is the caller's own, who changes it."""
        if args or set(kwargs) != {"cafile"} or not kwargs["cafile"]:
            return ssl.create_default_context(*args, **kwargs)
        return _shared(kwargs["cafile"])


def _shared(file: Any) -> ssl.SSLContext:
    key = stamp(file)
    if key is None:
        return ssl.create_default_context(cafile=file)  # which says what is wrong
    if key not in _contexts:
        _contexts[key] = ssl.create_default_context(cafile=file)
    return _contexts[key]


def share() -> None:
    """Let Prefect's clients share, and make what they need as the settings of now are."""
    module: Any = importlib.import_module("prefect.client.orchestration")
    if getattr(module, "ssl", None) is not ssl:
        return  # another Prefect, which makes them otherwise
    module.ssl = _Sharing()
    settings: Any = importlib.import_module("prefect.settings").get_current_settings()
    _shared(settings.api.ssl_cert_file or importlib.import_module("certifi").where())
