"""From the log of supervisord's programs to notifications. Pure."""

from __future__ import annotations

from flowherd.notify.changes import Change, Condition, change_by_end
from flowherd.notify.ends import EndNotice
from flowherd.notify.kinds import Kind
from flowherd.notify.message import sentence, title
from flowherd.programs.entry import EXITED, ProgramEntry


def condition_key(program: str) -> str:
    """Return the key of the condition of a program."""
    return f"{Kind.PROGRAM}:{program}"


def notice_of_entry(entry: ProgramEntry, host: str, known: Condition | None) -> EndNotice | None:
    """Return what an entry of the log changes; None if nothing. A program that runs again is another matter, below."""
    if entry.is_bad:
        return _bad(entry, host, known)
    if known is not None and entry.what == EXITED:
        return recovery(entry.program, host, known, "exits as expected again")
    return None


def _bad(entry: ProgramEntry, host: str, known: Condition | None) -> EndNotice:
    mark = f"{entry.reason} {entry.exit_code} {entry.signal}"
    change = change_by_end(known, is_bad=True, mark=mark)
    count, since = (1, entry.at) if known is None else (known.count + 1, known.since)
    fields = {
        "sentence": sentence(entry.message),
        "grade": entry.grade,
        "reason": entry.reason,
        "evidence": sentence(entry.evidence) if entry.evidence else None,
        "count": count,
        "since": since,
    }
    condition = Condition(key=condition_key(entry.program), kind=Kind.PROGRAM, mark=mark, since=since, count=count)
    return EndNotice(
        kind=Kind.PROGRAM,
        title=title(f"{entry.message.rstrip('.')} on {host}"),
        again=change is Change.AGAIN,
        fields=fields,
        condition=condition,
    )


def recovery(program: str, host: str, known: Condition, how: str = "runs again") -> EndNotice:
    """Return the notice of a program that is well again."""
    often = f"{known.count} failure{'' if known.count == 1 else 's'}"
    return EndNotice(
        kind=Kind.RECOVERED,
        title=title(f"{program} {how} on {host}, after {often}"),
        over=Kind.PROGRAM,
        fields={"count": known.count, "since": known.since},
        condition=None,
    )
