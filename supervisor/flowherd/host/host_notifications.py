"""Notifications of an agent about its own host, where no server of flowherd sends any: beside a Prefect 3 pool.

It notices ends of its runs, runs that are stuck or near their memory limit, full disks, and output that waits; beside
any server what became of supervisord's programs (program_watch.py). What is not well is kept in a file, and what is to
be delivered in an outbox of files (flowherd/notify/file_outbox.py).
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from loguru import logger

from flowherd.agent.measures import Measures, ReportedRun
from flowherd.agent.platform import Figures
from flowherd.config import LoadedSettings
from flowherd.host.delivery.journal_reader import BATCH_BYTES, read_batch
from flowherd.host_figures import read_host
from flowherd.notify.changes import Condition, LastingTroubles, Look, Relief, Trouble, ended
from flowherd.notify.delivery import Delivery
from flowherd.notify.ends import End, EndNotice, notice_of_end
from flowherd.notify.file_outbox import DIRECTORY, FileOutbox
from flowherd.notify.kinds import Kind
from flowherd.notify.message import LAST_LINES, log_line, notification_of, sentence, title
from flowherd.notify.rules import Subject, channels_for
from flowherd.notify.thresholds import is_much_unsent, is_near_limit, is_nearly_full
from flowherd.notify.wording import disk_title, memory_title, spool_title
from flowherd.recurring_error import RecurringError
from flowherd.states import RunState
from flowherd.story.live import RunFigures, read_run_figures
from flowherd.story.order import BAD
from flowherd.story.stuck import stuck_reason
from flowherd_runner.contract import files

#: Pause between two looks, seconds.
_LOOK_S = 10.0
#: How long a delivery under way may hold up the end of the agent, seconds.
_STOP_S = 0.5
#: File beside the outbox in which is what is not well.
_CONDITIONS_FILE = "conditions"
#: How much of the end of a journal is read for the last lines, bytes.
_TAIL_BYTES = 128 * 1024
_GOOD = frozenset({RunState.SUCCESS, RunState.CACHED, RunState.MAPPED})


def notifies_of_programs(loaded: LoadedSettings) -> bool:
    """Return whether the agent notifies of supervisord's programs, of which no server knows."""
    notify = loaded.settings.notify
    return bool(notify.channels) and any(Kind.PROGRAM.value in rule.on for rule in notify.rules)


def notifies(loaded: LoadedSettings) -> bool:
    """Return whether the agent notifies, by its settings: flowherd's own server does it itself."""
    notify = loaded.settings.notify
    return loaded.settings.backend_name != "graphql" and bool(notify.channels and notify.rules)


class HostNotifications:
    """The notifications of one agent. Raises ConfigurationError if a rule names a channel that there is not.

    `tick` is for one thread at a time, the rest for any.
    """

    def __init__(
        self,
        loaded: LoadedSettings,
        name: str,
        labels: Sequence[str],
        figures: Callable[[], Figures],
        living_runs: Callable[[], Sequence[Mapping[str, Any]]],
    ) -> None:
        self._is_about_runs = notifies(loaded)
        self._loaded = loaded
        self._rules = loaded.settings.notify.checked_rules()
        self._name = name
        self._about = Subject(labels=tuple(labels))
        self._figures = figures
        self._living_runs = living_runs
        self._targets = loaded.settings.notify.targets()
        self._lasting = LastingTroubles(loaded.settings.notify.after)
        self._lock = threading.Lock()
        self._outbox: FileOutbox | None = None
        self._delivery: Delivery | None = None
        self._known: dict[str, Condition] = {}
        self._next_look_s = 0.0
        self._working = RecurringError("notify", logger)

    def tick(self) -> None:
        """Look at the host, if it is time to. Called again and again once the state directory is open."""
        if time.monotonic() < self._next_look_s:
            return
        self._next_look_s = time.monotonic() + _LOOK_S
        try:
            with self._lock:
                self._open()
                if self._is_about_runs:
                    self._look()
        except Exception as error:  # whatever it is, the agent goes on
            self._working.failed(error)
        else:
            self._working.recovered()

    def _reported(self, run: ReportedRun) -> None:
        """Notice the end of a run, which the backend has."""
        if not self._is_about_runs or (run.result not in BAD and run.result not in _GOOD):
            return
        try:
            with self._lock:
                self._open()
                self._take_end(run)
        except Exception as error:  # whatever it is, the end is delivered
            self._working.failed(error)

    def known(self, key: str) -> Condition | None:
        """Return what is not well of a program."""
        with self._lock:
            self._open()
            return self._known.get(key)

    def tell(self, key: str, notice: EndNotice) -> None:
        """Notify of a change of a program. Raises OSError if it cannot be written down."""
        with self._lock:
            self._open()
            fields = {"agent": self._name, **notice.fields}
            self._send(notice.kind, self._about, notice.title, over=notice.over, again=notice.again, **fields)
            self._keep(key, notice.condition)

    def forget(self, key: str) -> None:
        """Forget what was not well of a program, without a notification."""
        with self._lock:
            self._keep(key, None)

    def follow(self, measures: Measures) -> None:
        """Have `measures` say which runs have ended, and when the agent stops."""
        reported, close = measures.on_reported, measures.on_close

        def on_reported(run: ReportedRun) -> None:
            reported(run)
            self._reported(run)

        def on_close() -> None:
            close()
            self.close()

        measures.on_reported, measures.on_close = on_reported, on_close

    def close(self) -> None:
        """Stop delivering. What waits is delivered by the next agent on the state directory."""
        if self._delivery is not None:
            self._delivery.stop(_STOP_S)

    def _open(self) -> None:
        """Open the outbox and deliver what waits in it; not before the state directory is this agent's own."""
        if self._outbox is not None:
            return
        directory = self._loaded.paths.state_dir / DIRECTORY
        outbox = FileOutbox(directory)
        self._known = _read_conditions(directory / _CONDITIONS_FILE)
        self._outbox, self._delivery = outbox, Delivery(outbox, self._targets, logger)
        self._delivery.start()

    def _take_end(self, run: ReportedRun) -> None:
        key = f"flow:{run.run.flow}"
        is_bad = run.result in BAD
        known = self._known.get(key)
        if known is None and not is_bad:
            return
        # Of a run with an engine of its own the agent knows how the process ended; the log has the rest.
        message = run.end.message if run.end.state in BAD else f"Its engine has reported {run.result}."
        end = End(
            flow=run.run.flow,
            state=run.result.value,
            is_bad=is_bad,
            message=message if is_bad else "",
            reason=run.end.reason,
            grade=run.end.grade,
            at=run.end.at.timestamp(),
        )
        notice = notice_of_end(end, key, known)
        if notice is None:
            return
        fields: dict[str, Any] = {**self._run_fields(run.run.id, run.run.name, run.result.value), **notice.fields}
        if is_bad:
            evidence = (run.end.account or {}).get("evidence")
            fields["evidence"] = sentence(evidence) if isinstance(evidence, str) and evidence else None
            fields["last_lines"] = self._last_lines(run.run.id)
        about = Subject(flow=run.run.flow, labels=self._about.labels)
        self._send(notice.kind, about, notice.title, over=notice.over, again=notice.again, **fields)
        self._keep(key, notice.condition)

    def _look(self) -> None:
        wanted = {kind for rule in self._rules for kind in rule.on}
        look = self._found()
        troubles = [each for each in look.troubles if each.kind in wanted]
        look = Look(troubles=troubles, reliefs=look.reliefs)
        known = {key: each for key, each in self._known.items() if not key.startswith(("flow:", "program:"))}
        for trouble, since in self._lasting.begun(known, look, time.time()):
            self._send(trouble.kind, trouble.about, trouble.title, since=since or None, **trouble.fields)
            self._keep(trouble.key, Condition(key=trouble.key, kind=trouble.kind, since=since))
        for condition, relief in ended(known.values(), look):
            if relief is not None:
                fields = {"since": condition.since or None, **relief.fields}
                self._send(Kind.RECOVERED, relief.about, relief.title, over=condition.kind, **fields)
            self._keep(condition.key, None)

    def _found(self) -> Look:
        """Return what is not well, and what is well."""
        troubles, reliefs = list[Trouble](), dict[str, Relief]()

        def note(
            key: str, kind: Kind, is_bad: bool, text: str, about: Subject, since: float | None, **more: Any
        ) -> None:
            if is_bad:
                fields = {"agent": self._name, **more}
                troubles.append(Trouble(key=key, kind=kind, title=text, about=about, since=since, fields=fields))
            else:
                reliefs[key] = Relief(title=text, about=about, fields={"agent": self._name, **more})

        host = socket.gethostname()
        for disk in read_host({"state": self._loaded.paths.state_dir}).disks:
            key = f"{Kind.DISK}:{disk.total_bytes}"
            is_low = is_nearly_full(disk, was_full=key in self._known)
            note(key, Kind.DISK, is_low, disk_title(disk, host, is_low=is_low), self._about, None)
        unsent, most = self._figures().spool_bytes, self._loaded.settings.runs.max_spool_bytes
        if most:
            key = f"{Kind.SPOOL}:"
            is_much = is_much_unsent(unsent, most, was_much=key in self._known)
            text = spool_title(f"Agent {self._name}", unsent, most, is_much=is_much)
            note(key, Kind.SPOOL, is_much, text, self._about, None)
        runs = list(self._living_runs())
        flows = {str(run["id"]): (str(run.get("flow", "")), str(run.get("name", ""))) for run in runs}
        for run in read_run_figures(runs):
            flow, name = flows[run.id]
            about, fields = Subject(flow=flow, labels=self._about.labels), self._run_fields(run.id, name, "Running")
            fields.pop("agent")
            key = f"{Kind.STUCK}:{run.id}"
            reason = _stuck(run)
            text = title(f"{flow} is stuck: {reason}" if reason else f"{flow} is no longer stuck")
            note(key, Kind.STUCK, bool(reason), text, about, 0.0, **fields)
            if run.memory_bytes is not None and run.memory_limit_bytes:
                key = f"{Kind.NEAR_LIMIT}:{run.id}"
                is_near = is_near_limit(run.memory_bytes, run.memory_limit_bytes, was_near=key in self._known)
                text = memory_title(flow, run.memory_bytes, run.memory_limit_bytes)
                note(key, Kind.NEAR_LIMIT, is_near, text if is_near else f"{text} again", about, 0.0, **fields)
        return Look(troubles=troubles, reliefs=reliefs)

    def _send(
        self, kind: Kind, about: Subject, text: str, *, over: Kind | None = None, again: bool = False, **fields: Any
    ) -> None:
        names = [target.name for target in self._targets]
        chosen = channels_for(self._rules, names, kind, about, over=over, again=again)
        if not chosen or self._outbox is None or self._delivery is None:
            return
        self._outbox.add(notification_of(kind, about, text, over=over, **fields), chosen)
        self._delivery.wake()

    def _keep(self, key: str, condition: Condition | None) -> None:
        """Keep what is not well; None if it is over. After the notification, which is rather sent twice than not."""
        self._known.pop(key, None)
        if condition is not None:
            self._known[key] = condition
        path = self._loaded.paths.state_dir / DIRECTORY / _CONDITIONS_FILE
        new = path.with_name(_CONDITIONS_FILE + ".new")
        rows = [{**vars(each), "kind": each.kind.value} for each in self._known.values()]
        with new.open("w", encoding="utf-8") as file:
            json.dump(rows, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)

    def _run_fields(self, run_id: str, name: str, state: str) -> dict[str, Any]:
        settings = self._loaded.settings
        page = settings.notify.page or (settings.prefect3.api or settings.cloud.api).rstrip("/").removesuffix("/api")
        link = f"{page.rstrip('/')}/runs/flow-run/{run_id}" if page else None
        return {"run_id": run_id, "run_name": name, "state": state, "agent": self._name, "link": link}

    def _last_lines(self, run_id: str) -> list[str]:
        journal = self._loaded.paths.state_dir / "runs" / run_id / files.JOURNAL_FILE
        try:
            start = max(0, journal.stat().st_size - _TAIL_BYTES)
            lines, _ = read_batch(journal, run_id, start, BATCH_BYTES)
        except OSError:
            return []
        texts = [text for line in lines for text in line.message.split("\n")]
        return [log_line(text) for text in texts[-LAST_LINES:]]


def _stuck(run: RunFigures) -> str:
    return "" if run.stopping else stuck_reason(RunState.RUNNING, None, run, None, datetime.now(timezone.utc))


def _read_conditions(path: Path) -> dict[str, Condition]:
    """Return what an earlier agent has found not to be well. A damaged file counts as none."""
    try:
        rows = json.loads(path.read_bytes())
        found = [Condition(**{**row, "kind": Kind(row["kind"])}) for row in rows]
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    return {each.key: each for each in found}
