"""What the demo shows: the runs as a live table on a terminal, as a line a change when piped, and their logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from flowherd.cli.demo.demo_flows import DemoFlow
from flowherd.cli.output import STATE_STYLES, console, is_terminal, one_line, rich_table, say
from flowherd.cli.parse_options import took
from flowherd.cli.runs.follow import Line
from flowherd.cli.runs.log_view import emit_text
from flowherd.client.user import RunView

#: Lines of a run's log that are shown; a demo is no place for more.
_LOG_LINES = 12


class Board:
    """The table of the runs, as long as the block lasts."""

    def __init__(self, flows: Sequence[DemoFlow]) -> None:
        self._flows = flows
        self._told: dict[str, str] = {}
        self._live: Any = None

    def __enter__(self) -> Board:
        if is_terminal():
            from rich.live import Live

            self._live = Live(console=console(), refresh_per_second=8)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, runs: Mapping[str, RunView]) -> None:
        """Show how the runs are now."""
        if self._live is not None:
            self._live.update(self._table(runs))
            return
        for flow in self._flows:
            run = runs.get(flow.name)
            if run is not None and self._told.get(flow.name) != run.state:
                self._told[flow.name] = run.state
                say(f"{flow.name:<11} {run.state:<10} {one_line(run.message or '')}".rstrip())

    def tell(self, text: str) -> None:
        """One line beside the table."""
        if self._live is not None:
            self._live.console.print(text)
        else:
            say(text)

    def _table(self, runs: Mapping[str, RunView]) -> Any:
        columns = ("FLOW", "WHAT IT DOES", "STATE", "PID", "TOOK", "MESSAGE")
        shown = [(flow, runs[flow.name]) for flow in self._flows if flow.name in runs]
        rows = [
            (flow.name, flow.what, run.state, str(run.pid or ""), took(run.start_time, run.end_time), run.message or "")
            for flow, run in shown
        ]
        lines = [[one_line(cell) for cell in row] for row in rows]
        return rich_table(columns, lines, [STATE_STYLES.get(run.state, "") for _, run in shown])


def show_log(flow: DemoFlow, run: RunView, lines: Sequence[Line]) -> None:
    """A run's log under its heading, its middle left out when it is long."""
    say("")
    say(f"$ flowherd logs {run.id[:8]}    # {flow.name}: {flow.what}")
    if len(lines) <= _LOG_LINES:
        emit_text(lines)
        return
    half = _LOG_LINES // 2
    emit_text(lines[:half])
    say(f"... {len(lines) - _LOG_LINES} lines left out")
    emit_text(lines[-half:])
