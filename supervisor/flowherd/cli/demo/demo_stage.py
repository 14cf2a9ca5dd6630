"""Carries out the demo: starts a server and an agent as child processes, runs the flows, and ends everything again."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import psutil

from flowherd.backends.discovery import running_server
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.cli import exit_codes
from flowherd.cli.demo.demo_flows import DemoFlow, demo_flows, verdict
from flowherd.cli.demo.demo_view import Board, show_log
from flowherd.cli.failures import CommandError
from flowherd.cli.printing import print_line
from flowherd.cli.runs.follow import BackendLog, Line
from flowherd.client.runs import RunView
from flowherd.client.user_client import UserClient
from flowherd.config.loading import HOME_VARIABLE, SERVER_FILE
from flowherd.signals import StopSignals, Waker
from flowherd_runner.contract.identity import members_by_variable

#: Pause between two looks.
POLL_S = 0.2
#: How long the server or the agent may take to come up; on a slow disk the first imports take a while.
_READY_S = 60.0
#: How long the flows may take until all have ended.
_RUNS_S = 120.0
#: How long server and agent may take to stop before they are killed.
_STOP_S = 20.0
#: Number of last characters of a log that an error message shows.
_LOG_TAIL = 500

T = TypeVar("T")


class Stage:
    """One demo. `play` carries it out; `stop` ends what has been started, at any point."""

    def __init__(self, place: Path, waker: Waker, signals: StopSignals) -> None:
        self._place = place
        self._waker = waker
        self._signals = signals
        self._home = place / "home"
        self._children: list[subprocess.Popen[bytes]] = []
        self._run_ids: list[str] = []
        self._environ = _environment(self._home, place)

    def play(self) -> bool:
        """Bring everything up, run the flows and show how they went; return whether each ended as it should.

        Raises CommandError if something does not come up, or if a signal asks to stop.
        """
        client = self._bring_up()
        flows = demo_flows(self._place)
        self._commands([["register", flow.name, *flow.register] for flow in flows])
        started = self._commands([["run", flow.name, "--json"] for flow in flows])
        runs = {flow.name: str(json.loads(printed)["id"]) for flow, printed in zip(flows, started, strict=True)}
        self._run_ids = list(runs.values())
        print_line("")
        ended = self._watch(client, flows, runs)
        logs = {flow.name: _log(client, runs[flow.name]) for flow in flows}
        for flow in flows:
            show_log(flow, ended[flow.name], logs[flow.name])
        return _conclude(flows, ended, logs)

    def stop(self) -> None:
        """End the agent, then the server."""
        for child in reversed(self._children):
            _end(child)
        self._children.clear()

    def left_behind(self) -> list[str]:
        """Return the processes of the demo and of its runs that should have ended and have not."""
        left = [
            f"process {pid} of run {run}" for run in self._run_ids for pid in members_by_variable(run, psutil.pids())
        ]
        return [*left, *(f"process {pid}" for pid in _with_home(self._home))]

    def _bring_up(self) -> UserClient:
        print_line(f"everything of this demo is in {self._place}")
        self._start(["server", "--port", "0"], "server.log")
        api = self._until(lambda: running_server(self._home / SERVER_FILE), "the server", _READY_S)
        print_line(f"  the embedded server is ready at {api.address}")
        client = UserClient(GraphQLTransport(api.address))
        self._start(["start", "--name", "demo", "--on-stop", "cancel"], "agent.log")
        connected = self._until(
            lambda: next((a for a in client.agents.all() if a.connected), None), "the agent", _READY_S
        )
        print_line(f"  the agent {connected.name!r} has joined it, with the labels {', '.join(connected.labels)}")
        print_line("")
        return client

    def _watch(self, client: UserClient, flows: Sequence[DemoFlow], runs: dict[str, str]) -> dict[str, RunView]:
        by_id = {run_id: name for name, run_id in runs.items()}
        cancels = {flow.name: flow.cancel_after for flow in flows if flow.cancel_after}

        def all_ended() -> dict[str, RunView] | None:
            seen = {by_id[run.id]: run for run in client.runs.by_ids(list(by_id))}
            board.show(seen)
            for name in [name for name, text in cancels.items() if _logged(client, runs[name], text)]:
                del cancels[name]
                client.runs.cancel(runs[name])
                board.print_line(f"$ flowherd cancel {runs[name][:8]}")
            return seen if all(run.finished for run in seen.values()) else None

        with Board(flows) as board:
            return self._until(all_ended, "the end of all runs", _RUNS_S)

    def _commands(self, command_lines: Sequence[Sequence[str]]) -> list[str]:
        """Carry out command lines of flowherd, all at the same time, and return what each printed."""
        running = [(words, self._command(words)) for words in command_lines]
        done = [(words, command, *command.communicate()) for words, command in running]
        if self._signals.count:
            raise CommandError("stopped", exit_codes.INTERRUPTED)
        for words, command, _, errors in done:
            if command.returncode != exit_codes.OK:
                raise CommandError(f"`flowherd {words[0]}` failed: {errors.strip() or command.returncode}")
        return [printed for _, _, printed, _ in done]

    def _command(self, words: Sequence[str]) -> subprocess.Popen[str]:
        print_line(f"$ flowherd {shlex.join(words)}")
        return subprocess.Popen(
            [sys.executable, "-m", "flowherd", *words],
            env=self._environ,
            cwd=self._place,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _start(self, arguments: Sequence[str], log_name: str) -> None:
        with (self._place / log_name).open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "flowherd", *arguments],
                env=self._environ,
                cwd=self._place,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C at the terminal is for the demo, which then ends first the agent and then the server.
                start_new_session=True,
            )
        self._children.append(child)

    def _until(self, answer: Callable[[], T | None], what: str, timeout_s: float) -> T:
        deadline = time.monotonic() + timeout_s
        while (found := answer()) is None:
            if self._signals.count:
                raise CommandError("stopped", exit_codes.INTERRUPTED)
            if time.monotonic() > deadline or any(child.poll() is not None for child in self._children):
                raise CommandError(f"waited for {what} without success; end of the last log: {self._log_tail()}")
            self._waker.wait(POLL_S)
        return found

    def _log_tail(self) -> str:
        logs = sorted(self._place.glob("*.log"), key=lambda path: path.stat().st_mtime)
        return logs[-1].read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL:] if logs else "(there is none)"


def _environment(home: Path, place: Path) -> dict[str, str]:
    """Return the caller's environment without the caller's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLOWHERD_", "PREFECT_"))}
    return {**kept, HOME_VARIABLE: str(home), "PREFECT__HOME_DIR": str(place / "prefect")}


def _logged(client: UserClient, run_id: str, text: str) -> bool:
    return any(text in line.message for line in _log(client, run_id))


def _log(client: UserClient, run_id: str) -> list[Line]:
    lines: list[Line] = []
    BackendLog(client, run_id).emit_new(lines.extend)
    return lines


def _conclude(flows: Sequence[DemoFlow], ended: dict[str, RunView], logs: dict[str, list[Line]]) -> bool:
    print_line("")
    problems = {flow.name: verdict(flow, ended[flow.name], logs[flow.name]) for flow in flows}
    for flow in flows:
        problem = problems[flow.name]
        print_line(f"{'ok ' if problem is None else 'BAD'}  {flow.name:<11} {problem or f'{flow.state}, as it should'}")
    return not any(problems.values())


def _end(child: subprocess.Popen[bytes]) -> None:
    for signal_child in (child.terminate, child.kill):
        signal_child()
        try:
            child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            continue
        return


def _with_home(home: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(HOME_VARIABLE) == str(home):
                found.append(process.pid)
        except psutil.Error:  # ended in the meantime, or another user's
            continue
    return found
