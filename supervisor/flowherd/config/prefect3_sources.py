"""Settings that Prefect 3's own client has too: its environment variables, and the active profile in profiles.toml.

They give the server's address, the credentials and the certificates to trust. A profile that cannot be read is ignored,
because it may be meant for other programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowherd.config.home_of_user import home_of_user
from flowherd.config.origins import Origin, Source
from flowherd.config.sources import Layer
from flowherd.config.toml_files import read_toml
from flowherd.errors import ConfigurationError

#: Our setting for each of Prefect 3's; of two for one setting the later wins.
PREFECT3_NAMES = {
    "PREFECT_API_URL": "prefect3.api",
    "PREFECT_API_KEY": "prefect3.api_key",
    "PREFECT_API_AUTH_STRING": "prefect3.auth_string",
    "SSL_CERT_FILE": "prefect3.ssl_cert_file",
    "PREFECT_API_SSL_CERT_FILE": "prefect3.ssl_cert_file",
}


def from_variables(environ: Mapping[str, str]) -> Layer:
    """Return the values of Prefect 3's environment variables."""
    return {
        dotted: (environ[name], Origin(source=Source.ENVIRONMENT, name=name))
        for name, dotted in PREFECT3_NAMES.items()
        if environ.get(name)
    }


def from_profile(environ: Mapping[str, str]) -> Layer:
    """Return the values of the profile that PREFECT_PROFILE names, else of the one that the file calls active."""
    path = _profiles_path(environ)
    if path is None:
        return {}
    try:
        data = read_toml(path) or {}
    except ConfigurationError:
        return {}
    profile = _mapping(_mapping(data.get("profiles")).get(environ.get("PREFECT_PROFILE") or data.get("active")))
    origin = Origin(source=Source.PREFECT_FILE, path=path)
    return {
        dotted: (profile[name], origin)
        for name, dotted in PREFECT3_NAMES.items()
        if isinstance(profile.get(name), str) and profile[name]
    }


def _profiles_path(environ: Mapping[str, str]) -> Path | None:
    given = environ.get("PREFECT_PROFILES_PATH")
    if given:
        return Path(given)
    if environ.get("PREFECT_HOME"):
        return Path(environ["PREFECT_HOME"]) / "profiles.toml"
    home = home_of_user(environ)
    return home / ".prefect" / "profiles.toml" if home is not None else None


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, dict) else {}
