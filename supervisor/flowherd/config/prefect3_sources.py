"""Prefect 3's own settings of a client, read without it: its variables, and the active profile of its profiles.toml.

Both give only the address, the credentials and who may vouch for the server. A profile that cannot be read is none: it
may be for others than us.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowherd.config.origins import Origin, Source
from flowherd.config.sources import Found
from flowherd.config.toml_files import read_toml
from flowherd.errors import ConfigurationError

#: Our settings by what Prefect 3 calls them.
_NAMES = {
    "PREFECT_API_URL": "prefect3.api",
    "PREFECT_API_KEY": "prefect3.api_key",
    "PREFECT_API_AUTH_STRING": "prefect3.auth_string",
    "SSL_CERT_FILE": "prefect3.ssl_cert_file",
    "PREFECT_API_SSL_CERT_FILE": "prefect3.ssl_cert_file",
}


def from_variables(environ: Mapping[str, str]) -> Found:
    """What Prefect 3's variables say."""
    return {
        dotted: (environ[name], Origin(source=Source.ENVIRONMENT, name=name))
        for name, dotted in _NAMES.items()
        if environ.get(name)
    }


def from_profile(environ: Mapping[str, str]) -> Found:
    """What the profile says that PREFECT_PROFILE names, else the one that the file calls active."""
    path = _profiles_path(environ)
    try:
        data = read_toml(path) or {}
    except ConfigurationError:
        return {}
    profile = _mapping(_mapping(data.get("profiles")).get(environ.get("PREFECT_PROFILE") or data.get("active")))
    origin = Origin(source=Source.PREFECT_FILE, path=path)
    return {
        dotted: (profile[name], origin)
        for name, dotted in _NAMES.items()
        if isinstance(profile.get(name), str) and profile[name]
    }


def _profiles_path(environ: Mapping[str, str]) -> Path:
    given = environ.get("PREFECT_PROFILES_PATH")
    if given:
        return Path(given)
    home = environ.get("PREFECT_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".prefect")
    return Path(home) / "profiles.toml"


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, dict) else {}
