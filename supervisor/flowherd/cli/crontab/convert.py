"""Turns the jobs of a crontab into flows, and says what differs from cron."""

from __future__ import annotations

import pwd
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any

from flowherd.cli.crontab.crontab_lines import CrontabJob, WrongLine
from flowherd.cli.crontab.job_names import job_name
from flowherd.schedules.cron import Cron, read_cron
from flowherd.schedules.cron_fields import ScheduleError
from flowherd.schedules.own_clock import zone_named

#: What cron gives to every job (crontab(5)).
_SHELL, _PATH = "/bin/sh", "/usr/bin:/bin"
#: Settings of cron itself, which are no variables of the job here.
_OF_CRON = frozenset(("MAILTO", "MAILFROM", "CONTENT_TYPE", "CONTENT_TRANSFER_ENCODING", "CRON_TZ", "RANDOM_DELAY"))
_HOUR = timedelta(hours=1)
_BOURNE = re.compile(r"(.*/)?(ba|da|z|k|mk|a|pdk)?sh")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the crontab, and the flow that it became."""

    number: int
    line: str
    #: None if the line could not be understood.
    name: str | None
    #: The keys of the flow in the file, in order.
    keys: Mapping[str, Any]
    #: To whom cron mails its output; empty for nobody.
    mail_to: str = ""
    #: What is different from cron, or why the line was not taken over.
    notes: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a crontab does not say itself."""

    #: Whose crontab it is; None if the lines name their users.
    owner: str | None
    #: The user whose agent runs the flows.
    agent_user: str
    zone: str


def convert(lines: Iterable[CrontabJob | WrongLine], surroundings: Surroundings) -> list[Entry]:
    """Return an entry for each line."""
    entries: list[Entry] = []
    taken: set[str] = set()
    for line in lines:
        entry = _wrong(line, line.why) if isinstance(line, WrongLine) else _entry(line, surroundings, taken)
        entries.append(entry)
        taken.add(entry.name or "")
    return entries


def _wrong(line: CrontabJob | WrongLine, why: str) -> Entry:
    return Entry(number=line.number, line=line.line, name=None, keys={}, notes=[why])


def _entry(job: CrontabJob, surroundings: Surroundings, taken: set[str]) -> Entry:
    notes: list[str] = []
    zone = job.settings.get("CRON_TZ", surroundings.zone)
    reboot = job.schedule.lower() == "@reboot"
    try:
        zone_named(zone)
        cron = None if reboot else read_cron(job.schedule)
    except ScheduleError as error:
        return _wrong(job, str(error))
    keys: dict[str, Any] = {"command": _command(job, notes)}
    if cron is not None:
        keys |= {
            "cron": job.schedule if job.schedule.startswith("@") else cron.text,
            "timezone": zone,
            "catch_up": "none",
        }
    user = job.user or surroundings.owner
    home = job.settings.get("HOME") or _home_of(user or surroundings.agent_user)
    if home is None:
        notes.append(f"there is no user {user} here, so its home directory is not known: set working_dir")
    else:
        keys["working_dir"] = home
    if user is not None and user != surroundings.agent_user:
        keys["user"] = user
        notes.append(f"it runs as {user}, which needs an agent that runs as root")
    keys["env"] = {
        "SHELL": _SHELL,
        "PATH": _PATH,
        **{name: value for name, value in job.settings.items() if name not in _OF_CRON},
    }
    said = [_reboot(job), _delay(job), "" if cron is None else _clock_changes(cron, zone)]
    notes += [note for note in said if note]
    return Entry(
        number=job.number,
        line=job.line,
        name=job_name(job.command, taken),
        keys=keys,
        mail_to=job.settings.get("MAILTO", ""),
        notes=notes,
    )


def _command(job: CrontabJob, notes: list[str]) -> list[str]:
    shell = job.settings.get("SHELL") or _SHELL
    if job.stdin is None:
        return [shell, "-c", job.command]
    if not _BOURNE.fullmatch(shell):
        notes.append(f"its input, after the %, is given by a pipe of {_SHELL}")
        inner = f"{shlex.quote(shell)} -c {shlex.quote(job.command)}"
        return [_SHELL, "-c", f"printf %s {shlex.quote(job.stdin)} | {inner}"]
    # On a line of its own, because the command may end with a comment.
    return [shell, "-c", f"printf %s {shlex.quote(job.stdin)} | {{\n{job.command}\n}}"]


def _home_of(user: str) -> str | None:
    try:
        return pwd.getpwnam(user).pw_dir
    except KeyError:
        return None


def _reboot(job: CrontabJob) -> str:
    text = "there is no @reboot, so it has no schedule: after a boot start it with `flowherd run`, from a service"
    return text if job.schedule.lower() == "@reboot" else ""


def _delay(job: CrontabJob) -> str:
    return "there is no RANDOM_DELAY; it starts on the minute" if job.settings.get("RANDOM_DELAY") else ""


def _clock_changes(cron: Cron, zone: str) -> str:
    minute, hour, *_ = cron.text.split()
    skipped = _skipped_hours(zone)
    if minute.startswith("*") and not cron.by_elapsed_time and skipped & set(cron.hours):
        return "if the clock skips the hour, it runs once, just after; cron leaves it out"
    if skipped and "/" in hour and not hour.startswith("*"):
        return "where clocks change it goes by elapsed time; cron takes the hours for fixed"
    return ""


@lru_cache
def _skipped_hours(zone_name: str) -> frozenset[int]:
    """Return the hours that the clock of a zone skips within a year from now, wholly or in part."""
    zone, at = zone_named(zone_name), datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0)
    skipped: set[int] = set()
    for _ in range(366 * 24):
        before, at = at.astimezone(zone), at + _HOUR
        reading = before.replace(tzinfo=None) + _HOUR
        while reading < at.astimezone(zone).replace(tzinfo=None):
            skipped.add(reading.hour)
            reading += timedelta(minutes=1)
    return frozenset(skipped)
