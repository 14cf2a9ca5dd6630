"""`flowherd import`: turns the schedules of other programs into a project file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError
from flowherd.cli.printing import print_file, print_note, print_warning
from flowherd.cli.zone_option import ZoneOption

if TYPE_CHECKING:
    from flowherd.cli.crontab.convert import Surroundings

_EXAMPLES = """
Examples:

  flowherd import crontab > flows.toml

  flowherd import crontab --user www-data > flows.toml

  flowherd import crontab /etc/crontab > flows.toml
"""
#: The crontabs whose lines name a user.
_WITH_USERS = ("/etc/crontab", "/etc/cron.d/")


def add_to(app: typer.Typer) -> None:
    """Add the command and its own command to the program."""
    family = typer.Typer(help="Turn the jobs of cron into a project file of flows.", no_args_is_help=True)
    family.callback()(_import)  # keeps `crontab` a command of its own while it is the only one
    family.command("crontab", epilog=_EXAMPLES)(crontab)
    app.add_typer(family, name="import")


def _import() -> None:
    """Turn the jobs of cron into a project file of flows."""


def crontab(
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="A crontab, or - (default: that of `crontab -l`).")
    ] = None,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="The user whose crontab it is.")] = None,
    with_users: Annotated[
        bool, typer.Option("--system", help="The lines name a user, as those of /etc/crontab and /etc/cron.d do.")
    ] = False,
    zone: ZoneOption = None,
    project: Annotated[str, typer.Option(metavar="NAME", help="Project of the flows.")] = "crontab",
) -> None:
    """Print the jobs of a crontab as a project file, flows.toml, with what differs from cron as comments.

    Registers nothing. Exits with 1 if a line was not taken over; a comment says why.
    """
    from flowherd.cli.crontab.convert import convert
    from flowherd.cli.crontab.crontab_lines import crontab_lines
    from flowherd.cli.crontab.flows_toml import flows_toml

    with_users = with_users or (file or "").startswith(_WITH_USERS)
    if with_users and user is not None:
        raise CommandError("--user is for a user's own crontab; the lines of this one name users", exit_codes.USAGE)
    origin, text = _text(file, user)
    surroundings = _surroundings(user, zone)
    entries = convert(crontab_lines(text, with_users=with_users), surroundings)
    print_file(flows_toml(entries, origin, project, surroundings.agent_user).rstrip("\n"))
    wrong = [entry for entry in entries if entry.name is None]
    for entry in entries:
        for note in entry.notes:
            print_note(f"line {entry.number} ({entry.name or 'not taken over'}): {note}")
    rest = f"; {len(wrong)} line{'' if len(wrong) == 1 else 's'} not taken over" if wrong else ""
    print_note(f"{len(entries) - len(wrong)} flows from {origin}{rest}")
    raise typer.Exit(exit_codes.FAILED if wrong else exit_codes.OK)


def _text(file: str | None, user: str | None) -> tuple[str, str]:
    """Return where the crontab comes from and its text. Raises CommandError if it cannot be read."""
    import sys
    from pathlib import Path

    if file is None:
        return _users_crontab(user)
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return ("standard input" if file == "-" else file), data.decode()
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}", exit_codes.NOT_FOUND) from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{file} is not text in UTF-8; convert it, as with iconv", exit_codes.USAGE) from error


def _users_crontab(user: str | None) -> tuple[str, str]:
    import subprocess

    command = ["crontab", "-l", *(["-u", user] if user is not None else [])]
    shown = " ".join(command)
    try:
        done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise CommandError(
            f"`{shown}` cannot be run ({error.strerror}); give the crontab as a file", exit_codes.NOT_FOUND
        ) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise CommandError(f"`{shown}` failed: {said or f'exit code {done.returncode}'}", exit_codes.NOT_FOUND)
    return f"`{shown}`", done.stdout.decode(errors="replace")


def _surroundings(user: str | None, zone: str | None) -> Surroundings:
    import getpass

    from flowherd.cli.crontab.convert import Surroundings
    from flowherd.schedules.cron_fields import ScheduleError
    from flowherd.schedules.host_zone import host_zone_name
    from flowherd.schedules.own_clock import zone_named

    found = zone or host_zone_name()
    if found is None:
        print_warning("this host has no time zone with a name, so the times are in UTC; choose one with --timezone")
    try:
        zone_named(found)
    except ScheduleError as error:
        raise CommandError(f"--timezone: {error}", exit_codes.USAGE) from error
    return Surroundings(owner=user, agent_user=getpass.getuser(), zone=found or "UTC")
