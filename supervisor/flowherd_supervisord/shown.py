"""What supervisorctl shows of an agent and its runs, as plain text."""

import time
from datetime import datetime
from typing import Any, Iterable, List, Mapping, Optional, Sequence

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def summary(facts: Mapping[str, Any]) -> str:
    """Return an agent's state in a line: "3 runs, limit 8, paused"."""
    count = facts["runs"]
    parts = ["1 run" if count == 1 else "{} runs".format(count)]
    if facts.get("limit") is not None:
        parts.append("limit {}".format(facts["limit"]))
    status = facts["status"]
    reason = facts.get("reason") or ""
    if status == "unwell":
        parts.append("unwell: {}".format(reason))
    elif status != "ok":
        parts.append(status)
        if reason and status != "paused":
            parts.append(reason)
    return ", ".join(parts)


def run_lines(runs: Sequence[Mapping[str, Any]], now_s: Optional[float] = None) -> List[str]:
    """Return a table of runs, as `supervisorctl status` shows programs: name, state, and the rest in a sentence."""
    now_s = time.time() if now_s is None else now_s
    return columns([[one.get("name") or one["id"], one.get("state") or "", _rest(one, now_s)] for one in runs])


def _rest(run: Mapping[str, Any], now_s: float) -> str:
    parts = [run.get("flow") or "", run["id"][:8]]
    if run.get("pid"):
        parts.append("pid {}".format(run["pid"]))
    started = moment(run.get("started_at"))
    if started is not None:
        parts.append("for " + span(now_s - started.timestamp()))
    if run.get("memory_bytes") is not None:
        parts.append(size(run["memory_bytes"]))
    if run.get("stopping"):
        parts.append("asked to end: {}".format(run["stopping"]))
    if run.get("message") and run["message"] != run.get("state"):
        parts.append(str(run["message"]))
    return ", ".join(part for part in parts if part)


def story_lines(story: Mapping[str, Any]) -> List[str]:
    """Return a run's story: what it is, the verdict, and what happened."""
    lines = ["{name} ({id}), a run of {flow}: {state}".format(**story)]
    verdict = story.get("verdict") or {}
    grade = " ({})".format(verdict["grade"]) if verdict.get("grade") else ""
    lines += [one for one in ["{}{}".format(verdict.get("sentence", ""), grade)] if one]
    lines += verdict.get("details") or []
    entries = story.get("story") or []
    return lines + columns([[clock(one.get("at")), one["what"], one["detail"]] for one in entries])


def log_lines(lines: Iterable[Mapping[str, Any]]) -> List[str]:
    """Return lines of a log with their times and streams."""
    return ["{}  {:<8}  {}".format(clock(one["at"]), one["stream"], one["message"]) for one in lines]


def lines_after(lines: Sequence[Mapping[str, Any]], last: Sequence[Mapping[str, Any]]) -> List[Mapping[str, Any]]:
    """Return the lines of a log that follow the one in `last`; all if it is not among them."""
    known = [(moment(one["at"]), one["message"]) for one in last]
    same = [n for n, one in enumerate(lines) if (moment(one["at"]), one["message"]) in known]
    return list(lines[same[-1] + 1 :] if same else lines)


def columns(rows: Sequence[Sequence[str]]) -> List[str]:
    """Return rows whose columns begin below each other."""
    widths = [max(len(cell) for cell in column) for column in list(zip(*rows))[:-1]]
    return ["   ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[-1]]).rstrip() for row in rows]


def moment(text: Any) -> Optional[datetime]:
    """Return the time of a text of ISO 8601 with an offset; None if it is none."""
    try:
        # Python 3.7 reads no "Z".
        return datetime.fromisoformat(text.replace("Z", "+00:00")) if isinstance(text, str) and text else None
    except ValueError:
        return None


def clock(text: Any) -> str:
    """Return a time of ISO 8601 by the clock of this host."""
    at = moment(text)
    return "-" if at is None else at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def span(seconds: float) -> str:
    """Return a time as supervisorctl writes uptimes: 1:02:03, or "2 days, 1:02:03"."""
    whole = max(0, int(seconds))
    days, rest = divmod(whole, 86400)
    text = "{}:{:02}:{:02}".format(rest // 3600, rest // 60 % 60, rest % 60)
    return "{} day{}, {}".format(days, "" if days == 1 else "s", text) if days else text


def size(count: float) -> str:
    """Return a number of bytes with a unit."""
    value = float(count)
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            break
        value /= 1024
    return "{:.0f} {}".format(value, unit) if unit == "B" or value >= 10 else "{:.1f} {}".format(value, unit)
