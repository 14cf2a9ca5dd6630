"""`flowherd install supervisord` and `install systemd`: print the configuration of an agent as a service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowherd.cli import exit_codes, texts
from flowherd.cli.failures import CommandError
from flowherd.cli.output import note, say
from flowherd.cli.start import OnStopChoice

if TYPE_CHECKING:
    from flowherd.config import LoadedSettings
    from flowherd.supervisord.service_files import Service

TOKEN_FILE_VARIABLE = "FLOWHERD__CLOUD__AGENT__AUTH_TOKEN_FILE"
_SUPERVISORD_EXAMPLE = "Example:  flowherd install supervisord -n web1 > /etc/supervisor/conf.d/flowherd.conf"
_SYSTEMD_EXAMPLE = "Example:  flowherd install systemd --user flow > /etc/systemd/system/flowherd.service"

NameOption = Annotated[str | None, typer.Option("-n", "--name", help="The agent's name (default: the settings')")]
LabelOption = Annotated[list[str] | None, typer.Option("-l", "--label", metavar="LABEL", help="A label; repeatable.")]
ApiAddressOption = Annotated[
    str | None, typer.Option("-a", "--api", metavar="URL", help="API address (default: the embedded server)")
]
EnvOption = Annotated[
    list[str] | None, typer.Option("-e", "--env", metavar="K=V", help="A variable of the agent; no secrets here.")
]
UserOption = Annotated[str | None, typer.Option("--user", metavar="NAME", help="Run the agent as this user.")]
HomeOption = Annotated[
    str | None, typer.Option("--home", metavar="DIR", help="flowherd's home (default: FLOWHERD_HOME, or the user's)")
]
OnStopOption = Annotated[OnStopChoice, typer.Option(help="What a stop of the service does to the runs.")]
ServiceOption = Annotated[str, typer.Option("--service", metavar="NAME", help="Name of the program or unit.")]
TokenFileOption = Annotated[
    str | None, typer.Option("--token-file", metavar="FILE", help="The file of mode 0600 that holds the API token.")
]
WriteTokenOption = Annotated[
    bool, typer.Option("--write-token-file", help="Write the configured token, or one that is asked for, to that file.")
]


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    family = typer.Typer(help="Print the configuration that runs the agent as a service.", no_args_is_help=True)
    family.command("supervisord", epilog=_SUPERVISORD_EXAMPLE)(supervisord)
    family.command("systemd", epilog=_SYSTEMD_EXAMPLE)(systemd)
    app.add_typer(family, name="install")


def supervisord(
    name: NameOption = None,
    label: LabelOption = None,
    api: ApiAddressOption = None,
    env: EnvOption = None,
    user: UserOption = None,
    home: HomeOption = None,
    on_stop: OnStopOption = OnStopChoice.DETACH,
    service: ServiceOption = "flowherd",
    token_file: TokenFileOption = None,
    write_token_file: WriteTokenOption = False,
) -> None:
    """Print a supervisord program section for the agent; its runs survive a restart of it."""
    from flowherd.supervisord.service_files import supervisord_section

    loaded = _loaded(name, api, home)
    _token(loaded, token_file, write_token_file, user)
    made = _service(loaded, service, label, env, user, on_stop, token_file)
    say(supervisord_section(made).rstrip())


def systemd(
    name: NameOption = None,
    label: LabelOption = None,
    api: ApiAddressOption = None,
    env: EnvOption = None,
    env_file: Annotated[str | None, typer.Option(metavar="FILE", help="A file of variables, read by systemd.")] = None,
    user: UserOption = None,
    home: HomeOption = None,
    on_stop: OnStopOption = OnStopChoice.DETACH,
    service: ServiceOption = "flowherd",
    token_file: TokenFileOption = None,
    write_token_file: WriteTokenOption = False,
) -> None:
    """Print a systemd unit for the agent; its runs survive a restart of it."""
    from dataclasses import replace

    from flowherd.supervisord.service_files import systemd_unit

    loaded = _loaded(name, api, home)
    _token(loaded, token_file, write_token_file, user)
    made = _service(loaded, service, label, env, user, on_stop, token_file)
    say(systemd_unit(replace(made, environment_file=_path(env_file) if env_file else None)).rstrip())


def _loaded(name: str | None, api: str | None, home: str | None) -> LoadedSettings:
    from flowherd.config import load_settings

    flags = {"cloud.agent.name": "--name", "cloud.api": "--api", "home": "--home"}
    return load_settings({"cloud.agent.name": name, "cloud.api": api, "home": home}, argument_names=flags)


def _service(
    loaded: LoadedSettings,
    service: str,
    labels: list[str] | None,
    env: list[str] | None,
    user: str | None,
    on_stop: OnStopChoice,
    token_file: str | None,
) -> Service:
    import sys

    from flowherd.config import Source
    from flowherd.supervisord.service_files import STOP_MARGIN_S, Service

    agent = loaded.settings.agent
    home = _home(loaded, user)
    environment = {"FLOWHERD_HOME": str(home), **_user_variables(user), **texts.pairs(env, "-e")}
    # What stands in a file of that home, the service reads there itself.
    if loaded.origins["cloud.api"].source in (Source.ARGUMENT, Source.ENVIRONMENT):
        environment["FLOWHERD__CLOUD__API"] = loaded.settings.cloud.api
    if token_file:
        environment[TOKEN_FILE_VARIABLE] = str(_path(token_file))
    label_words = [word for label in labels or () for word in ("--label", label)]
    words = ["start", "--name", loaded.settings.cloud.agent.name, *label_words, "--on-stop", on_stop.value]
    return Service(
        name=service,
        # Not resolved: a virtual environment's python is a link, and what it links to is not the environment.
        argv=[str(Path(sys.executable).absolute()), "-m", "flowherd", *words],
        environment=environment,
        user=user,
        directory=Path("/"),
        stop_wait_s=round(agent.drain_deadline + agent.grace + STOP_MARGIN_S),
    )


def _home(loaded: LoadedSettings, user: str | None) -> Path:
    """flowherd's home for the service: the one that was given, else the one of the user that it runs as."""
    from flowherd.config import Source

    if user is None or loaded.origins["home"].source is not Source.DEFAULT:
        return loaded.paths.home
    return Path(_user_variables(user)["HOME"]) / ".flowherd"


def _user_variables(user: str | None) -> dict[str, str]:
    """What supervisord leaves as it is when it changes the user (http://supervisord.org/subprocess.html)."""
    import pwd

    if user is None:
        return {}
    try:
        home = pwd.getpwnam(user).pw_dir
    except KeyError:
        raise CommandError(f"--user: there is no user {user!r} on this host", exit_codes.NOT_FOUND) from None
    return {"HOME": home, "USER": user, "LOGNAME": user}


def _token(loaded: LoadedSettings, token_file: str | None, write: bool, user: str | None) -> None:
    from flowherd.config import Source

    token = loaded.settings.cloud.agent.auth_token
    if write:
        if token_file is None:
            raise CommandError("--write-token-file needs --token-file FILE to know where", exit_codes.USAGE)
        _write_token(_path(token_file), token or typer.prompt("API token", hide_input=True, err=True), user)
    elif token_file is not None and not _path(token_file).exists():
        note(f"note: make {token_file} before the service starts: umask 077; cat > {token_file}")
    elif token_file is None and token and loaded.origins["cloud.agent.auth_token"].source is Source.ENVIRONMENT:
        note("note: a token is set here, and the service will not have it: add --token-file FILE --write-token-file")


def _write_token(path: Path, token: str, user: str | None) -> None:
    import os
    import shutil

    temporary = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token.strip() + "\n")
        if user is not None and os.geteuid() == 0:
            shutil.chown(temporary, user)
        temporary.replace(path)
    except OSError as error:
        raise CommandError(f"--token-file: {path} cannot be written: {error}") from error
    note(f"note: wrote the token to {path} (mode 0600)")


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()
