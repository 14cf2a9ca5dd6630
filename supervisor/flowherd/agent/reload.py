"""Reads the settings again while the agent works, and has its parts use what can change without a restart."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from loguru import logger

from flowherd.agent import agent_log
from flowherd.agent.systemd import notify_ready, notify_reloading
from flowherd.config import LoadedSettings, load_settings
from flowherd.config.catalogue import value_of
from flowherd.config.reload_report import ALL_SETTINGS, Change, ReloadReport, SettingsSource
from flowherd.config.settings_changes import changed_settings, taking_over
from flowherd.engines.variables import defect
from flowherd.errors import FlowherdError

if TYPE_CHECKING:
    from flowherd.agent.agent_parts import AgentParts

#: Settings that count as soon as they are read again, and the sections of which that is true for all.
_AT_ONCE = frozenset(
    {
        *("cloud.agent.level", "cloud.agent.env_vars", "runtimes", "agent.limit", "agent.label_limits"),
        *("agent.on_stop", "agent.drain_deadline", "agent.grace", "agent.import_paths", "agent.preload"),
        *("agent.show_flow_logs", "agent.remote"),
    }
)
_SECTIONS_AT_ONCE = ("runs.", "logging.")
_SECTIONS_OF_SERVER = ("server.", "notify.")
#: Attributes of an agent that take their values from settings, unless the program that makes the agent gives others.
_ATTRIBUTES = {
    "env_vars": "cloud.agent.env_vars",
    "limit": "agent.limit",
    "import_paths": "agent.import_paths",
    "show_flow_logs": "agent.show_flow_logs",
}
_GIVEN = "the program that made this agent has given it this value"
_NO_SOURCE = "the program that made this agent has given it its settings, which are read from nowhere"


def counts_at_once(dotted: str) -> bool:
    """Return whether an agent takes up a change of this setting without a restart."""
    return dotted in _AT_ONCE or dotted.startswith(_SECTIONS_AT_ONCE)


class Reload:
    """Reloads of one agent; from any thread, one at a time."""

    def __init__(self, agent: AgentParts, source: SettingsSource | None) -> None:
        #: None if the settings cannot be read again.
        self.source = source
        self._agent = agent
        self._lock = threading.Lock()
        #: The sources as they were last read, as far as that counts already; None before the first reload.
        self._last: LoadedSettings | None = None

    def carry_out(self, reason: str) -> ReloadReport:
        """Read the settings again, use what can be used, open the log files again, and log what came of it.

        `reason` is for the log. If the settings cannot be read, or one has a value that cannot be used, all stay as
        they were.
        """
        with self._lock:
            is_ready = self._agent._own_is_set_up
            if is_ready:
                notify_reloading()
            logger.info("Reloading ({})", reason, action="reload")
            try:
                report = self._report()
            finally:
                if is_ready:
                    notify_ready()
            for level, text in report.lines():
                logger.log(level, "{}", text, action="reload")
            return report

    def _report(self) -> ReloadReport:
        report = ReloadReport()
        try:
            if self.source is None:
                report.refused[ALL_SETTINGS] = _NO_SOURCE
            else:
                self.source.pass_on()
                self._take_up(self.source.read(), self.source, report)
        except (FlowherdError, OSError) as error:
            report.refused[ALL_SETTINGS] = str(error)
        report.log_files = agent_log.reopen()
        return report

    def _take_up(self, later: LoadedSettings, source: SettingsSource, report: ReloadReport) -> None:
        last = self._last or source.at_start
        names = changed_settings(last.settings, later.settings)
        at_once = [name for name in names if counts_at_once(name)]
        of_server = [name for name in names if self._is_of_server(name, later)]
        left = [name for name in names if name not in {*at_once, *of_server}]
        report.needs_restart = [Change.of(name, last, later) for name in left]
        report.of_server = [Change.of(name, last, later) for name in of_server]
        report.refused.update(self._given_by_program(at_once, last))
        report.refused.update(_unusable(at_once, later))
        report.refused.update(self._take_up_log(_without(at_once, report.refused), last, later))
        wanted = _without(at_once, report.refused)
        report.refused.update(self._agent._own_use_settings(taking_over(self._agent.loaded, later, wanted), wanted))
        used = _without(wanted, report.refused)
        report.changed = [Change.of(name, last, later) for name in used]
        self._last = taking_over(last, later, [*used, *of_server])
        self._set_attributes(used, later, source)

    def _is_of_server(self, name: str, later: LoadedSettings) -> bool:
        """Whether a setting concerns the embedded server alone; agents of other servers send notifications."""
        if name.startswith("notify.") and later.settings.backend_name != "graphql":
            return False
        return name.startswith(_SECTIONS_OF_SERVER)

    def _given_by_program(self, names: Collection[str], last: LoadedSettings) -> dict[str, str]:
        held = {dotted: getattr(self._agent, attribute, None) for attribute, dotted in _ATTRIBUTES.items()}
        return {
            name: _GIVEN
            for name, value in held.items()
            if name in names and (value or None) != (value_of(last.settings, name) or None)
        }

    def _take_up_log(self, names: Collection[str], last: LoadedSettings, later: LoadedSettings) -> dict[str, str]:
        """Change the agent's own log. Returns the settings that are refused."""
        of_file = [name for name in names if name.startswith("logging.")]
        has_level = "cloud.agent.level" in names
        if not of_file and not has_level:
            return {}
        level = (later if has_level else last).settings.cloud.agent.level
        try:
            is_own = agent_log.change(level, later.settings.logging)
        except (OSError, ValueError) as error:
            agent_log.change(level, last.settings.logging)
            return dict.fromkeys(of_file, f"the log file cannot be written: {error}")
        return {} if is_own else dict.fromkeys(of_file, "the log is that of the program that made this agent")

    def _set_attributes(self, used: Collection[str], later: LoadedSettings, source: SettingsSource) -> None:
        for attribute, dotted in _ATTRIBUTES.items():
            if dotted in used and hasattr(self._agent, attribute):
                value = value_of(later.settings, dotted)
                setattr(self._agent, attribute, _copied(value))
        if "agent.on_stop" in used:
            self._agent.control.usual_stop = later.settings.agent.on_stop or source.usual_stop
        if "cloud.agent.level" in used:
            self._agent.logger.setLevel(logger.level(later.settings.cloud.agent.level).no)


def source_of_library(given: LoadedSettings | None, loaded: LoadedSettings) -> SettingsSource | None:
    """Return the source of an agent that a program makes, with settings of its own or without."""
    return SettingsSource(read=load_settings, at_start=loaded) if given is None else None


def _without(names: Iterable[str], refused: Collection[str]) -> list[str]:
    return [name for name in names if name not in refused]


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, list | dict) else value


def _unusable(names: Collection[str], later: LoadedSettings) -> dict[str, str]:
    """Return why values cannot be used that a new agent would refuse too, by their settings."""
    found = {}
    wrong = defect(later.settings.cloud.agent.env_vars) if "cloud.agent.env_vars" in names else None
    if wrong is not None:
        found["cloud.agent.env_vars"] = wrong
    if "agent.import_paths" in names and any("\0" in path for path in later.settings.agent.import_paths):
        found["agent.import_paths"] = "a path contains the character NUL"
    return found
