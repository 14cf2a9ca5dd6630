"""What each source says about the settings, the strongest source first:

    arguments > FLOWHERD__* > PREFECT__* > other variables > Prefect 3's variables > flowherd's file > the file with
    the embedded server's token > Prefect's file > Prefect 3's files > Prefect's address of a server > defaults

A mapping that two sources set is not merged: the value of the stronger source stands alone. Each source only adds what
no stronger one has given, and it is recorded where each value came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flowherd.config.catalogue import FILE_SUFFIX, SETTINGS, SettingInfo
from flowherd.config.config_values import from_text, from_value
from flowherd.config.origins import Origin, Source
from flowherd.config.toml_files import line_of
from flowherd.config.urls import without_user
from flowherd.errors import ConfigurationError

#: Variables that have another name than the setting that they set; of two for one setting the first wins.
OTHER_VARIABLES = {
    # Prefect 1's variable for what Prefect 0.13 had in PREFECT__CLOUD__AGENT__AUTH_TOKEN.
    "PREFECT__CLOUD__API_KEY": "cloud.agent.auth_token",
    # That of Prefect 0.x for PREFECT__CLOUD__SEND_FLOW_RUN_LOGS. Only a variable counts: files that were copied from
    # its defaults say false, although its agents send logs.
    "PREFECT__LOGGING__LOG_TO_CLOUD": "cloud.send_flow_run_logs",
    # Those of requests, with which the clients of Prefect 0.x and 1.x are built.
    "REQUESTS_CA_BUNDLE": "cloud.ca_bundle",
    "CURL_CA_BUNDLE": "cloud.ca_bundle",
}

#: What one source says: values with their origins, by dotted name.
Layer = Mapping[str, tuple[Any, Origin]]


def strongest(layers: Iterable[Layer], origins: dict[str, Origin]) -> dict[str, Any]:
    """Return the strongest layer's value of each setting, nested by sections; adds its origin to `origins`."""
    nested: dict[str, Any] = {}
    for layer in layers:
        for dotted, (value, origin) in layer.items():
            if dotted not in origins:
                origins[dotted] = origin
                _put(nested, dotted.split("."), value)
    return nested


def _put(nested: dict[str, Any], parts: list[str], value: Any) -> None:
    for part in parts[:-1]:
        nested = nested.setdefault(part, {})
    nested[parts[-1]] = value


def from_arguments(overrides: Mapping[str, Any], names: Mapping[str, str]) -> Layer:
    """Return values that were given as arguments or options; None means not given. `names` are the options' flags.

    Raises KeyError for a name that is not a setting, which is a mistake of the caller.
    """
    return {
        dotted: (from_value(SETTINGS[dotted], value), Origin(source=Source.ARGUMENT, name=names.get(dotted, "")))
        for dotted, value in overrides.items()
        if value is not None
    }


def from_environment(environ: Mapping[str, str], prefix: str) -> Layer:
    """Return the values of the variables with this prefix; VARIABLE_FILE may name a file that contains a secret."""
    layer: dict[str, tuple[Any, Origin]] = {}
    for setting in SETTINGS.values():
        name = setting.variable(prefix)
        if name in environ:
            origin = Origin(source=Source.ENVIRONMENT, name=name)
            layer[setting.dotted] = (read_text(setting, environ[name], origin), origin)
        elif setting.secret and environ.get(name + FILE_SUFFIX):
            path = Path(environ[name + FILE_SUFFIX])
            origin = Origin(source=Source.ENVIRONMENT, name=name + FILE_SUFFIX, path=path)
            layer[setting.dotted] = (read_secret_file(path, name + FILE_SUFFIX), origin)
    return layer


def from_other_variables(environ: Mapping[str, str]) -> Layer:
    """Return the values of variables that are not named after their settings; an empty one is not set."""
    layer: dict[str, tuple[Any, Origin]] = {}
    for name, dotted in OTHER_VARIABLES.items():
        if environ.get(name) and dotted not in layer:
            origin = Origin(source=Source.ENVIRONMENT, name=name)
            layer[dotted] = (read_text(SETTINGS[dotted], environ[name], origin), origin)
    return layer


def from_file(values: Mapping[str, Any], path: Path, source: Source) -> Layer:
    """Return the values of a configuration file; text is read as a list or mapping if the setting is one."""
    origin = Origin(source=source, path=path)
    return {dotted: (_read_value(SETTINGS[dotted], value, origin), origin) for dotted, value in values.items()}


def read_secret_file(path: Path, variable: str) -> str:
    """Return the secret in a file that only its owner may read.

    Raises ConfigurationError if the file cannot be read, or if others may read it.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{variable} names {path}, which cannot be read: {error}") from error
    if mode & 0o077:
        raise ConfigurationError(
            f"{variable} names {path}, which other users may read (mode {mode & 0o777:04o}); chmod 600 it"
        )
    return text


def unknown_variables(environ: Iterable[str], prefix: str) -> list[str]:
    """Return the variables that have the prefix but set nothing."""
    known = {setting.variable(prefix) for setting in SETTINGS.values()}
    known |= {setting.variable(prefix) + FILE_SUFFIX for setting in SETTINGS.values() if setting.secret}
    return sorted(name for name in environ if name.startswith(prefix) and name not in known)


def read_text(setting: SettingInfo, text: str, origin: Origin) -> Any:
    """Return what a text from this origin means for a setting. Raises ConfigurationError if it means nothing."""
    try:
        return from_text(setting, text)
    except ValueError as error:
        raise bad_value(setting, text, origin, str(error)) from error


def _read_value(setting: SettingInfo, value: Any, origin: Origin) -> Any:
    try:
        return from_value(setting, value)
    except ValueError as error:
        raise bad_value(setting, value, origin, str(error)) from error


def bad_value(setting: SettingInfo, value: Any, origin: Origin, allowed: str) -> ConfigurationError:
    """Return the error for a value that cannot be used; `allowed` says what can."""
    shown = "(not shown)" if setting.secret or setting.masked else without_user(repr(value))
    key = origin.key or setting.dotted
    line = None if origin.path is None or origin.name else line_of(origin.path, key)
    place = f"{origin}" if line is None else f"{origin}, line {line}"
    return ConfigurationError(f"{setting.dotted} = {shown} from {place} cannot be used: {allowed}")
