"""The methods flowherd.METHOD of supervisord's XML-RPC. supervisord decides who may call them."""

import json
from typing import Any, Callable, Dict, List, Mapping

from flowherd_supervisord.agent_socket import Answer
from flowherd_supervisord.loop_request import deferred
from flowherd_supervisord.program_ends import program_ends
from flowherd_supervisord.rpc_values import fault, sendable
from flowherd_supervisord.shown import summary

#: Longest wait for an answer of the agent that a section may ask for, seconds.
_LONGEST_TIMEOUT_S = 600.0

#: A function that supervisord calls until it returns the result.
Deferred = Callable[[], Any]


class FlowherdInterface:
    """One agent. supervisord publishes the methods whose names begin with a letter.

    Each raises a fault: NOT_RUNNING if no agent answers, BAD_NAME if there is no such run or flow, else BAD_ARGUMENTS
    or FAILED; its text says what to do. A run is named by its id, the beginning of its id, or its name.
    """

    def __init__(self, options: Mapping[str, str]) -> None:
        self._ends = program_ends()
        self._socket = options.get("socket", "")
        self._timeout_s = 0.0
        self._problem = self._read(options)

    def _read(self, options: Mapping[str, str]) -> str:
        """Read the section's keys and return what is wrong with them; empty if nothing is."""
        unknown = sorted(set(options) - {"socket", "timeout"})
        if unknown:
            return "has the key {}; it knows socket and timeout".format(unknown[0])
        if not self._socket.startswith("/"):
            return "has no socket=/PATH; write the path of the agent's control.sock there"
        try:
            self._timeout_s = float(options.get("timeout", "10"))
        except ValueError:
            pass
        if not 0 < self._timeout_s <= _LONGEST_TIMEOUT_S:
            return "has timeout={}; write seconds, up to {:g}".format(options["timeout"], _LONGEST_TIMEOUT_S)
        return ""

    def health(self) -> Deferred:
        """Return the agent's state: summary, status, reason, agent, pid, paused, runs, limit, spool_bytes.

        `status` is "ok", "unwell", or why it claims nothing: "paused", "draining" ...
        """
        return self._ask("GET", "agent", {}, _health)

    def runs(self) -> Deferred:
        """Return the runs that have not ended, with what they use: id, name, flow, state, pid, memory_bytes ..."""
        return self._ask("GET", "runs", {}, lambda answer: answer["runs"])

    def ended(self, limit: int = 20) -> Deferred:
        """Return the newest runs that have ended on this host: id, name, flow, state, message."""
        return self._ask("GET", "ended", {"limit": _whole(limit)}, lambda answer: answer["runs"])

    def run(self, flow: str, parameters: Any = None, name: str = "") -> Deferred:
        """Start a run of a registered flow, with parameters (a struct), and return its id and its flow."""
        if parameters is not None and not isinstance(parameters, dict):
            raise fault(_Argument("parameters must be a struct"))
        given = json.dumps(parameters, default=str) if parameters else None
        return self._ask("POST", "run", {"flow": _text(flow), "parameters": given, "name": name or None})

    def explain(self, run: str) -> Deferred:
        """Return a run's story: id, name, flow, state, a verdict with its evidence, what happened in order."""
        return self._ask("GET", "explain", {"run": _text(run)})

    def logs(self, run: str, lines: int = 100, offset: int = -1) -> Deferred:
        """Return the last lines of a run's log (1000 at most), each with at, stream, level, message.

        On the host of the run `end` is where the next lines begin. Given as `offset`, it leads to these.
        """
        return self._ask("GET", "log", {"run": _text(run), "lines": _whole(lines), "offset": _whole(offset)})

    def cancel(self, run: str) -> Deferred:
        """Ask for the end of a run; return its state afterwards, and whether it was finished already."""
        return self._ask("POST", "cancel", {"run": _text(run)})

    def retry(self, run: str) -> Deferred:
        """Repeat a run that has ended, and return the id of the new one."""
        return self._ask("POST", "retry", {"run": _text(run)})

    def poke(self) -> Deferred:
        """Make the agent look for runs now; return True."""
        return self._ask("POST", "poke", {}, lambda answer: True)

    def pause(self) -> Deferred:
        """Make the agent claim nothing more; its runs go on. Returns its state, as `health` does."""
        return self._ask("POST", "pause", {}, _health)

    def resume(self) -> Deferred:
        """Make the agent claim again. Returns its state."""
        return self._ask("POST", "resume", {}, _health)

    def drain(self, deadline_s: float = -1) -> Deferred:
        """End the agent when its runs have ended, or at the deadline, seconds from now. Returns its state.

        supervisord does not start it again by itself.
        """
        if isinstance(deadline_s, bool) or not isinstance(deadline_s, (int, float)):
            raise fault(_Argument("the deadline must be a number of seconds"))
        return self._ask("POST", "drain", {"deadline_s": deadline_s if deadline_s >= 0 else None}, _health)

    def restart(self) -> Deferred:
        """Start the agent again under its runs, as the same process. Returns its state.

        A changed program section needs supervisord's own restart.
        """
        return self._ask("POST", "restart", {}, _health)

    def reload(self) -> Deferred:
        """Make the agent read its settings again; return changed, needs_restart, refused, and all of it as lines."""
        return self._ask("POST", "reload", {}, lambda answer: answer["reload"])

    def program_ends(self, serial: int = 0, limit: int = 100) -> List[Any]:
        """Return how the programs of supervisord have ended, from the event with this serial number on, oldest first.

        For the event listener; without an agent. Each has serial, at, program, group, pid,
        started, exit_code, spawn_error; starts and FATAL are among them.
        """
        return list(sendable(self._ends.since(_whole(serial), _whole(limit))))

    def _ask(
        self, method: str, path: str, query: Dict[str, Any], shape: Callable[[Answer], Any] = lambda answer: answer
    ) -> Deferred:
        if self._problem:
            raise fault("the section [rpcinterface:...] of flowherd " + self._problem)
        return deferred(self._socket, method, "/api/" + path, query, self._timeout_s, shape)


class _Argument(Exception):
    status = 400


def _health(answer: Answer) -> Answer:
    return dict({key: value for key, value in answer.items() if key != "report"}, summary=summary(answer))


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise fault(_Argument("name a run or a flow, as a string"))
    return value.strip()


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
        raise fault(_Argument("{!r:.40} is no whole number".format(value)))
    return int(value)
