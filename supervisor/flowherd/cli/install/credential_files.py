"""The files of mode 0600 in which an agent's service finds its secrets: which setting each is for, and writing them.

A secret is neither on a command line, which every user can read, nor in the service's configuration, which is often
kept in a repository.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError
from flowherd.cli.options import require_work_pool
from flowherd.cli.printing import print_note
from flowherd.config import LoadedSettings, Source
from flowherd.config.catalogue import FILE_SUFFIX, PREFIXES, SETTINGS, value_of
from flowherd.private_directory import make_missing_directories


@dataclass(frozen=True, kw_only=True)
class Credential:
    """One secret of the service."""

    #: Dotted name of the setting.
    setting: str
    #: What people call it.
    title: str
    #: The option that names its file.
    flag: str
    #: The file; None if none was named.
    path: Path | None


def credentials(loaded: LoadedSettings, token_file: str | None, auth_string_file: str | None) -> list[Credential]:
    """Return the secrets that this agent may have. Raises CommandError for an auth string without a work pool."""
    token, auth_string = _path(token_file), _path(auth_string_file)
    if loaded.settings.uses_work_pool:
        return [
            Credential(setting="prefect3.api_key", title="API key", flag="--token-file", path=token),
            Credential(
                setting="prefect3.auth_string", title="NAME:PASSWORD", flag="--auth-string-file", path=auth_string
            ),
        ]
    if auth_string is not None:
        require_work_pool(loaded, "--auth-string-file")
    return [Credential(setting="cloud.agent.auth_token", title="API token", flag="--token-file", path=token)]


def variables(secrets: Sequence[Credential]) -> dict[str, str]:
    """Return the variables that name the files to the agent."""
    return {variable: str(path) for variable, path in files(secrets).items()}


def files(secrets: Sequence[Credential]) -> dict[str, Path]:
    """Return the files, by the variable that names each to the agent."""
    return {
        SETTINGS[secret.setting].variable(PREFIXES[0]) + FILE_SUFFIX: secret.path
        for secret in secrets
        if secret.path is not None
    }


def write_or_note(loaded: LoadedSettings, secrets: Sequence[Credential], *, write: bool, user: str | None) -> None:
    """Write the files if `write`; otherwise print notes about what the service will be missing."""
    if write and not any(secret.path for secret in secrets):
        flags = " or ".join(secret.flag for secret in secrets)
        raise CommandError(f"--write-token-file also needs {flags} FILE", exit_codes.USAGE)
    for secret in secrets:
        value = value_of(loaded.settings, secret.setting)
        if secret.path is None:
            if value and loaded.origins[secret.setting].source in (Source.ENVIRONMENT, Source.PREFECT_FILE):
                _note_missing(secret)
        elif write:
            _write(secret, secret.path, value or typer.prompt(secret.title, hide_input=True, err=True), user)
        elif not secret.path.exists():
            print_note(f"note: create {secret.path} before the service starts: umask 077; cat > {secret.path}")


def _note_missing(secret: Credential) -> None:
    what = "a token" if secret.title == "API token" else f"the {secret.title}"
    print_note(f"note: {what} is set here, but the service will not have it: add {secret.flag} FILE --write-token-file")


def _write(secret: Credential, path: Path, value: str, user: str | None) -> None:
    temporary = path.with_name(f".{path.name}.new")
    try:
        make_missing_directories(path.parent)
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(value.strip() + "\n")
        if user is not None and os.geteuid() == 0:
            shutil.chown(temporary, user)
        temporary.replace(path)
    except OSError as error:
        raise CommandError(f"{secret.flag}: {path} cannot be written: {error}") from error
    print_note(f"note: wrote the {secret.title.removeprefix('API ')} to {path} (mode 0600)")


def _path(text: str | None) -> Path | None:
    return Path(text).expanduser().absolute() if text else None
