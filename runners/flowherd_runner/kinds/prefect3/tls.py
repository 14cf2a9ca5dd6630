"""Shares one TLS context among all clients that Prefect makes in a process, made already in the fork server.

Each client of Prefect reads the certificates of all authorities itself, also when the API is plain HTTP: that takes a
fiftieth of a second, and a run makes half a dozen clients.
"""

import importlib
import ssl
from typing import Any, Dict

from flowherd_runner.kinds.prefect3.file_stamp import Stamp, stamp

#: TLS contexts, by the stamp of the file of certificates.
_contexts: Dict[Stamp, ssl.SSLContext] = {}


class _Sharing:
    """Takes the place of the module ssl for Prefect's clients."""

    def __getattr__(self, name: str) -> Any:
        return getattr(ssl, name)

    @staticmethod
    def create_default_context(*args: Any, **kwargs: Any) -> ssl.SSLContext:
        """Return the same context for the same file. One without a file is not shared: the caller changes it."""
        if args or set(kwargs) != {"cafile"} or not kwargs["cafile"]:
            return ssl.create_default_context(*args, **kwargs)
        return _shared(kwargs["cafile"])


def _shared(file: Any) -> ssl.SSLContext:
    key = stamp(file)
    if key is None:
        return ssl.create_default_context(cafile=file)  # which reports what is wrong
    if key not in _contexts:
        _contexts[key] = ssl.create_default_context(cafile=file)
    return _contexts[key]


def share() -> None:
    """Make Prefect's clients share contexts, and make the one that the present settings need."""
    module: Any = importlib.import_module("prefect.client.orchestration")
    if getattr(module, "ssl", None) is not ssl:
        return  # another Prefect, which makes them in another way
    module.ssl = _Sharing()
    settings: Any = importlib.import_module("prefect.settings").get_current_settings()
    _shared(settings.api.ssl_cert_file or importlib.import_module("certifi").where())
