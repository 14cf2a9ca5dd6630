"""Reads the settings again while the server works, and has its parts use what can change without a restart."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from loguru import logger

from flowherd.config.loading import LoadedSettings
from flowherd.config.notify_settings import Notify
from flowherd.config.reload_report import ALL_SETTINGS, Change, ReloadReport, SettingsSource
from flowherd.config.settings import Server
from flowherd.config.settings_changes import changed_settings, taking_over
from flowherd.errors import FlowherdError
from flowherd.signals import Actions, guarded
from flowherd.thread_lines import thread_lines
from flowherd_server.notify.notifier import NotifyOptions
from flowherd_server.notify.reloaded_notifier import ReloadedNotifier
from flowherd_server.runs.stale_heartbeats import RescueOptions
from flowherd_server.service import ServerCore
from flowherd_server.web.door import Door
from flowherd_server.web.metrics_page import gauges

#: Settings that count as soon as they are read again; with the whole section [notify].
_AT_ONCE = frozenset(
    f"server.{name}"
    for name in (
        *("keep_finished", "heartbeat_timeout", "agent_timeout"),
        *("zombie_interval", "lazarus_interval", "lazarus_attempts"),
    )
)
#: The first token of a server counts at once, too.
_TOKEN = "server.token"
_OWN_SECTIONS = ("server.", "notify.")


def rescue_options(server: Server) -> RescueOptions:
    """Return when a run counts as dead, as the settings say."""
    return RescueOptions(
        heartbeat_timeout_s=server.heartbeat_timeout,
        agent_timeout_s=server.agent_timeout,
        zombie_interval_s=server.zombie_interval,
        lazarus_interval_s=server.lazarus_interval,
        lazarus_attempts=server.lazarus_attempts,
    )


def notify_options(notify: Notify) -> NotifyOptions:
    """Return what the settings say of notifications. Raises ConfigurationError for what cannot be used."""
    rules = notify.checked_rules()
    return NotifyOptions(targets=notify.targets(), rules=rules, page=notify.page, after_s=notify.after)


class ServerReload:
    """Reloads of one server, and its other actions for signals; from one thread at a time."""

    def __init__(self, source: SettingsSource, core: ServerCore, notifier: ReloadedNotifier, door: Door) -> None:
        self._source = source
        self._core = core
        self._notifier = notifier
        self._door = door
        #: The sources as they were last read, as far as that counts already.
        self._last = source.at_start

    def actions(self) -> Actions:
        """Return what the server does for each of these signals. The actions raise nothing."""
        return {
            signal.SIGHUP: guarded("reload", self.carry_out),
            signal.SIGUSR1: guarded("write the server's state", self._write_state),
            signal.SIGUSR2: guarded("open the log files again", _reopen),
        }

    def carry_out(self) -> ReloadReport:
        """Read the settings again, use what can be used, and log what came of it."""
        logger.info("Reloading (SIGHUP)")
        report = ReloadReport()
        try:
            self._take_up(self._source.read(), report)
        except (FlowherdError, OSError) as error:
            report.refused[ALL_SETTINGS] = str(error)
        for level, text in report.lines():
            logger.log(level, "{}", text)
        return report

    def _take_up(self, later: LoadedSettings, report: ReloadReport) -> None:
        last = self._last
        own = [name for name in changed_settings(last.settings, later.settings) if name.startswith(_OWN_SECTIONS)]
        at_once = [name for name in own if name in _AT_ONCE or name.startswith("notify.")]
        if _TOKEN in own and not last.settings.server.token:  # another one would end the agents that have the last
            at_once.append(_TOKEN)
        report.needs_restart = [Change.of(name, last, later) for name in own if name not in at_once]
        of_notify = [name for name in at_once if name.startswith("notify.")]
        if of_notify:
            try:
                self._notifier.use(notify_options(later.settings.notify))
            except (FlowherdError, OSError) as error:
                report.refused = dict.fromkeys(of_notify, str(error))
        used = [name for name in at_once if name not in report.refused]
        if any(name in _AT_ONCE for name in used):
            self._core.use(later.settings.server.keep_finished, rescue_options(later.settings.server))
        if _TOKEN in used:
            self._door.close(later.settings.server.token)
            self._core.live.may_stop_agents = True
        report.changed = [Change.of(name, last, later) for name in used]
        self._last = taking_over(last, later, used)

    def _write_state(self) -> None:
        for line in self._state_lines():
            logger.info("State: {}", line)

    def _state_lines(self) -> Sequence[str]:
        lines = [f"server {self._core.instance}, database {self._core.database.path}"]
        if self._core.database.problem:
            lines.append(f"the database cannot be used: {self._core.database.problem}")
        else:
            with self._core.database.reading() as connection:
                found = list(gauges(self._core, connection))
            lines += [f"{one.family} {' '.join((*one.labels, f'{one.value:g}'))}" for one in found]
        return [*lines, *thread_lines()]


def _reopen() -> None:
    logger.info("SIGUSR2: the server's log goes to standard error, and to no file that could be opened again")
