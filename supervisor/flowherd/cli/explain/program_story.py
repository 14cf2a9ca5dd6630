"""`flowherd explain --program NAME`: what became of a program of supervisord, by the log of the event listener."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowherd.cli.exit_codes import NOT_FOUND, USAGE
from flowherd.cli.failures import CommandError
from flowherd.cli.printing import print_json, print_line, print_note, print_table

if TYPE_CHECKING:
    from flowherd.programs.entry import ProgramEntry

#: Number of newest entries that are shown without --all.
_NEWEST = 20


def complete_programs(incomplete: str) -> list[str]:
    """Complete the names of the programs in the logs of this home's agents."""
    from flowherd.config import load_settings
    from flowherd.errors import FlowherdError
    from flowherd.shown_text import one_line

    try:
        names = {each.program for each in _entries(_directories(load_settings().paths, None))}
    except (FlowherdError, OSError):
        return []
    return sorted(name for name in names if name and name.startswith(incomplete) and one_line(name) == name)


def show_program(name: str, state_dir: str | None, *, show_all: bool, as_json: bool) -> None:
    """Print the story of a program. Raises CommandError if the log does not have it."""
    from flowherd.config import load_settings
    from flowherd.programs.entry import LOST

    directories = _directories(load_settings().paths, state_dir)
    try:
        entries = _entries(directories)
    except OSError as error:
        raise CommandError(
            f"the log of programs cannot be read: {error}; run this as root or the agent's user"
        ) from error
    own = _named(name, entries)
    lost = sum(each.count for each in entries if each.what == LOST and each.at >= own[0].at)
    if as_json:
        print_json(_as_json(own, lost))
        return
    _print(own if show_all else own[-_NEWEST:], len(own), lost)


def _directories(paths: Any, state_dir: str | None) -> list[Path]:
    from flowherd.programs.program_log import DIRECTORY

    if state_dir is not None:
        return [Path(state_dir).expanduser().absolute() / DIRECTORY]
    return sorted({*paths.agents_dir.glob(f"*/{DIRECTORY}"), paths.state_dir / DIRECTORY})


def _entries(directories: Sequence[Path]) -> list[ProgramEntry]:
    from flowherd.programs.program_log import read_log

    logs = [found for place in directories if (found := read_log(place))]
    # One log is in order, even if a clock was set back meanwhile.
    return logs[0] if len(logs) == 1 else sorted((entry for log in logs for entry in log), key=lambda entry: entry.at)


def _named(name: str, entries: Sequence[ProgramEntry]) -> list[ProgramEntry]:
    names = {each.program for each in entries if each.program}
    if not names:
        raise CommandError(
            "no log of programs was found on this host. supervisord's event listener writes it: see the section "
            "[eventlistener:flowherd-listener] in docs/how-to/watch-supervisords-programs.md; --state-dir names the "
            "directory of another agent",
            NOT_FOUND,
        )
    # "worker" for "shop:worker", if no other program is called that.
    found = {name} if name in names else {each for each in names if each.endswith(f":{name}")}
    if len(found) > 1:
        raise CommandError(f"several programs are called {name!r}: {', '.join(sorted(found))}", USAGE)
    if not found:
        raise CommandError(f"no program {name!r} in the log; there are {', '.join(sorted(names))}", NOT_FOUND)
    return [each for each in entries if each.program in found]


def _as_json(entries: Sequence[ProgramEntry], lost: int) -> dict[str, Any]:
    rows = [{**asdict(each), "at": _moment(each.at), "started": _moment(each.started)} for each in entries]
    for row in rows:
        del row["count"], row["program"]
    end = _last_end(entries)
    return {
        "program": entries[-1].program,
        "state": entries[-1].what,
        "last_end": None if end is None else end.message,
        "reason": None if end is None else end.reason,
        "grade": None if end is None else end.grade,
        "evidence": None if end is None else end.evidence or None,
        "entries": rows,
        "lost": lost,
    }


def _print(entries: Sequence[ProgramEntry], count: int, lost: int) -> None:
    from flowherd.cli.explain.shown import shown_time

    now, last, end = datetime.now(timezone.utc), entries[-1], _last_end(entries)
    print_line(f"{last.program}, a program of supervisord: {last.what} since {shown_time(_moment(last.at), now)}")
    if end is not None:
        print_line(end.message)
        if end.reason:
            rest = f" {end.evidence[:1].upper()}{end.evidence[1:]}." if end.evidence else ""
            print_line(f"Reason: {end.reason}, {end.grade}.{rest}")
    print_table(
        ("TIME", "WHAT", "PID", "DETAIL"),
        [(shown_time(_moment(each.at), now), each.what, str(each.pid or ""), each.message) for each in entries],
    )
    if count > len(entries):
        print_note(f"{count - len(entries)} older entries: --all")
    if lost:
        print_note(f"{lost} events of supervisord are missing; some may be about this program")


def _last_end(entries: Sequence[ProgramEntry]) -> ProgramEntry | None:
    """Return the newest end of a process; FATAL says only that there is no new one."""
    from flowherd.programs.entry import ENDS

    return next((each for each in reversed(entries) if each.what in ENDS), None)


def _moment(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, timezone.utc)
