"""The files of mode 0600 in which an agent's service finds its credentials: which setting each is for, and making them.

A secret is neither in a command line, which everybody may read, nor in the service's configuration, which many keep in
a repository.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError
from flowherd.cli.output import note

if TYPE_CHECKING:
    from flowherd.config import LoadedSettings


@dataclass(frozen=True, kw_only=True)
class Credential:
    """One secret of the service."""

    #: The setting, by its dotted name.
    setting: str
    #: What a person calls it.
    words: str
    flag: str
    #: None where no file was named.
    path: Path | None


def of_agent(loaded: LoadedSettings, token_file: str | None, auth_string_file: str | None) -> list[Credential]:
    """The secrets that this agent may have. Raises CommandError for an auth string without a work pool."""
    token, auth_string = _path(token_file), _path(auth_string_file)
    if not loaded.settings.prefect3.pool:
        if auth_string is not None:
            raise CommandError("--auth-string-file is for a work pool; name that with --pool", exit_codes.USAGE)
        return [Credential(setting="cloud.agent.auth_token", words="API token", flag="--token-file", path=token)]
    return [
        Credential(setting="prefect3.api_key", words="API key", flag="--token-file", path=token),
        Credential(setting="prefect3.auth_string", words="NAME:PASSWORD", flag="--auth-string-file", path=auth_string),
    ]


def variables(secrets: list[Credential]) -> dict[str, str]:
    """What tells the agent where they are."""
    from flowherd.config.catalogue import FILE_SUFFIX, LEAVES, PREFIXES

    return {
        LEAVES[secret.setting].variable(PREFIXES[0]) + FILE_SUFFIX: str(secret.path)
        for secret in secrets
        if secret.path is not None
    }


def see_to(loaded: LoadedSettings, secrets: list[Credential], write: bool, user: str | None) -> None:
    """Write them if that is asked for; else say what the service will be missing."""
    if write and not any(secret.path for secret in secrets):
        flags = " or ".join(secret.flag for secret in secrets)
        raise CommandError(f"--write-token-file needs {flags} FILE to know where", exit_codes.USAGE)
    for secret in secrets:
        _see_to(loaded, secret, write, user)


def _see_to(loaded: LoadedSettings, secret: Credential, write: bool, user: str | None) -> None:
    from flowherd.config import Source
    from flowherd.config.catalogue import value_of

    value = value_of(loaded.settings, secret.setting)
    if secret.path is None:
        if value and loaded.origins[secret.setting].source in (Source.ENVIRONMENT, Source.PREFECT_FILE):
            what = "a token" if secret.words == "API token" else f"the {secret.words}"
            note(
                f"note: {what} is set here, and the service will not have it: add {secret.flag} FILE --write-token-file"
            )
    elif write:
        _write(secret, value or typer.prompt(secret.words, hide_input=True, err=True), user)
    elif not secret.path.exists():
        note(f"note: make {secret.path} before the service starts: umask 077; cat > {secret.path}")


def _write(secret: Credential, value: str, user: str | None) -> None:
    import os
    import shutil

    path = secret.path
    assert path is not None
    temporary = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(value.strip() + "\n")
        if user is not None and os.geteuid() == 0:
            shutil.chown(temporary, user)
        temporary.replace(path)
    except OSError as error:
        raise CommandError(f"{secret.flag}: {path} cannot be written: {error}") from error
    note(f"note: wrote the {secret.words.removeprefix('API ')} to {path} (mode 0600)")


def _path(text: str | None) -> Path | None:
    return Path(text).expanduser().absolute() if text else None
