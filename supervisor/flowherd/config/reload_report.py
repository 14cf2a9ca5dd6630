"""Where a reload reads the settings, and what came of it: what changed, needs a restart, or was refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from flowherd.config.loading import LoadedSettings
from flowherd.config.settings import OnStop
from flowherd.shown_text import one_line

#: What is refused when the sources of the settings cannot be read, or have a value that cannot be used.
ALL_SETTINGS = "settings"
#: Longest text of a value in a log line.
_LONGEST_VALUE = 200


@dataclass(frozen=True, kw_only=True)
class SettingsSource:
    """Where an agent's settings come from."""

    #: Reads them again, with the same command line and environment. Raises what `load_settings` raises.
    read: Callable[[], LoadedSettings]
    #: What `read` returned before the agent was made.
    at_start: LoadedSettings
    #: What happens to the runs at a stop if agent.on_stop is not set.
    usual_stop: OnStop = "detach"
    #: Called at each reload: has the embedded server that belongs to the agent reload too.
    pass_on: Callable[[], object] = lambda: None


@dataclass(frozen=True, kw_only=True)
class Change:
    """A setting with its value before and its value in the sources now, both in a form that may be shown."""

    setting: str
    before: Any
    now: Any

    @classmethod
    def of(cls, setting: str, before: LoadedSettings, now: LoadedSettings) -> Change:
        """Return the change of a setting; secrets are masked."""
        return cls(setting=setting, before=before.masked(setting), now=now.masked(setting))

    def __str__(self) -> str:
        if self.before == self.now:  # both are masked
            return f"{self.setting} has a new value, which is not shown"
        return f"{self.setting} is {_shown(self.now)}, was {_shown(self.before)}"

    def as_json(self) -> dict[str, Any]:
        """Return the change as an object."""
        return {"setting": self.setting, "from": self.before, "to": self.now}


@dataclass(kw_only=True)
class ReloadReport:
    """What came of one reload."""

    #: Settings that have changed and count from now on; for runs, for those that start from now on.
    changed: list[Change] = field(default_factory=list)
    #: Settings that have changed in the sources, and that count after the next restart.
    needs_restart: list[Change] = field(default_factory=list)
    #: For an agent: settings that concern the embedded server alone, which takes them up at its own reload.
    of_server: list[Change] = field(default_factory=list)
    #: Why something keeps the value that it had, by the setting's name; ALL_SETTINGS if nothing could be read.
    refused: dict[str, str] = field(default_factory=dict)
    #: Log files that were opened again.
    log_files: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the report as an object."""
        return {
            "changed": [change.as_json() for change in self.changed],
            "needs_restart": [change.as_json() for change in self.needs_restart],
            "of_server": [change.as_json() for change in self.of_server],
            "refused": [{"what": what, "reason": reason} for what, reason in self.refused.items()],
            "log_files": self.log_files,
            "lines": [text for _, text in self.lines()],
        }

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield the level and the text of each line that a log has of this reload."""
        if ALL_SETTINGS not in self.refused:
            counts = f"{len(self.changed)} changed, {len(self.needs_restart)} need a restart"
            yield "INFO", f"Reloaded the settings: {counts}, {len(self.refused)} refused"
        for change in self.changed:
            yield "INFO", f"Changed: {change}"
        for change in self.needs_restart:
            yield "WARNING", f"Needs a restart: {change}"
        for change in self.of_server:
            yield "INFO", f"Left to the embedded server's own reload: {change}"
        for what, reason in self.refused.items():
            kept = "all settings stay as they were" if what == ALL_SETTINGS else f"{what} stays as it was"
            yield "ERROR", one_line(f"Not reloaded, {kept}: {reason}")
        for path in self.log_files:
            yield "INFO", one_line(f"Opened the log file {path} again")


def _shown(value: Any) -> str:
    text = one_line("not set" if value is None else "empty" if value in ("", [], {}) else str(value))
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
