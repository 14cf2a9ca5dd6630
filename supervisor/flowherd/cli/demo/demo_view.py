"""What the demo shows: a live table of the runs on a terminal, one line per change in a pipe, and the runs' logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from flowherd.cli.demo.demo_flows import DemoFlow
from flowherd.cli.format_times import took
from flowherd.cli.printing import STATE_STYLES, console, is_terminal, print_line, rich_table
from flowherd.cli.runs.follow import Line
from flowherd.cli.runs.log_view import emit_text
from flowherd.client.runs import RunView
from flowherd.shown_text import one_line

#: Maximum number of lines of a run's log that are shown.
_LOG_LINES = 12


class Board:
    """The table of the runs, shown until the end of the block."""

    def __init__(self, flows: Sequence[DemoFlow]) -> None:
        self._flows = flows
        #: The state of each run that was printed last, by name of the flow; used without a terminal.
        self._printed: dict[str, str] = {}
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
        """Show the present state of the runs."""
        if self._live is not None:
            self._live.update(self._table(runs))
            return
        for flow in self._flows:
            run = runs.get(flow.name)
            if run is not None and self._printed.get(flow.name) != run.state:
                self._printed[flow.name] = run.state
                print_line(f"{flow.name:<11} {run.state:<10} {run.message or ''}".rstrip())

    def print_line(self, text: str) -> None:
        """Print one line above the table."""
        if self._live is not None:
            self._live.console.print(one_line(text))
        else:
            print_line(text)

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
    """Print a run's log under a heading; the middle of a long log is left out."""
    print_line("")
    print_line(f"$ flowherd logs {run.id[:8]}    # {flow.name}: {flow.what}")
    if len(lines) <= _LOG_LINES:
        emit_text(lines)
        return
    half = _LOG_LINES // 2
    emit_text(lines[:half])
    print_line(f"... {len(lines) - _LOG_LINES} lines left out")
    emit_text(lines[-half:])
