"""The command `flowherd` of supervisorctl. It asks supervisord, with supervisorctl's own address and password."""

import json
import shlex
import time
import xmlrpc.client
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from supervisor import xmlrpc as supervisor_xmlrpc
from supervisor.supervisorctl import (  # type: ignore[import-untyped]
    ControllerPluginBase,
    LSBInitExitStatuses,
    LSBStatusExitStatuses,
)

from flowherd_supervisord import shown

#: Subcommands: arguments, and what each does.
COMMANDS: Dict[str, Tuple[str, str]] = {
    "health": ("", "Show whether the agent is well, and what it has to do."),
    "runs": ("[--ended]", "List the runs that have not ended, or the newest that have."),
    "explain": ("RUN", "Tell why a run waits, what it does, or why it ended."),
    "logs": ("[-f] [-LINES] RUN", "Print the end of a run's log (100 lines); -f follows it."),
    "run": ("FLOW [NAME=VALUE ...]", "Start a run of a flow; a VALUE is JSON, or else text."),
    "cancel": ("RUN ...", "End runs with all their processes."),
    "retry": ("RUN ...", "Repeat runs that have ended."),
    "poke": ("", "Make the agent look for runs now."),
    "pause": ("", "Claim nothing more; what runs goes on."),
    "resume": ("", "Claim again."),
    "drain": ("[SECONDS]", "End the agent when its runs have ended, or after so many seconds."),
    "restart": ("", "Start the agent again under its runs."),
    "reload": ("", "Make the agent read its settings again."),
}
#: Subcommands that take the name of a run.
_WITH_RUN = ("explain", "logs", "cancel", "retry")
_FOLLOW_S = 1.0
#: Maximum number of lines that an agent returns.
_MOST_LINES = 1000
#: How long names of runs are kept for completion, seconds.
_NAMES_S = 2.0


class _Usage(Exception):
    """The arguments are wrong."""


class FlowherdPlugin(ControllerPluginBase):  # type: ignore[misc]
    """The subcommands. Exit codes are those of supervisorctl's own commands (LSB).

    0 done; 1 refused, or the agent is unwell; 2 wrong arguments; 3 supervisord has no [rpcinterface:flowherd]; 7 no
    agent answers (3 for `health`, as for `status`).
    """

    name = "flowherd"

    def __init__(self, controller: Any, options: Mapping[str, str]) -> None:
        ControllerPluginBase.__init__(self, controller)
        #: NAME of the section [rpcinterface:NAME].
        self._namespace = options.get("namespace", "flowherd")
        unknown = sorted(set(options) - {"namespace"})
        text = "the section [ctlplugin:flowherd] has the key {}; it knows namespace"
        self._problem = text.format(unknown[0]) if unknown else ""
        self._names: Tuple[float, List[str]] = (0.0, [])
        _extend(controller, self)

    def do_flowherd(self, arg: str) -> None:
        """Carry out a subcommand."""
        try:
            words = shlex.split(arg)
        except ValueError as error:
            self._fail("error: {}".format(error), LSBInitExitStatuses.INVALID_ARGS)
            return
        if self._problem:
            self._fail("error: " + self._problem)
        elif not words or words[0] in ("help", "-h", "--help"):
            self.help_flowherd(*words[1:])
        elif words[0] not in COMMANDS:
            text = "error: flowherd has no command {!r}; see: help flowherd".format(words[0])
            self._fail(text, LSBInitExitStatuses.INVALID_ARGS)
        elif self.ctl.upcheck():
            self._carry_out(words[0], words[1:])
        elif words[0] == "health":
            self.ctl.exitstatus = LSBStatusExitStatuses.UNKNOWN

    def help_flowherd(self, *names: str) -> None:
        """Print the subcommands."""
        for name in [one for one in names if one in COMMANDS] or COMMANDS:
            arguments, text = COMMANDS[name]
            self._print("{:<40}{}".format("flowherd {} {}".format(name, arguments).rstrip(), text))
        self._print("RUN is a run's id, the beginning of its id, or its name.")

    def do_help(self, arg: str) -> None:
        """Answer `help`, which asks every plugin. The default one answers for this one if it has a topic."""
        if not arg:
            ControllerPluginBase.do_help(self, arg)

    def complete(self, text: str, line: str) -> List[str]:
        """Return what the word `text` at the end of `line` can become."""
        words = line.split()
        number = len(words) - (0 if line.endswith(" ") else 1)
        if number == 1:
            return [name + " " for name in COMMANDS if name.startswith(text)]
        if number > 1 and words[1] in _WITH_RUN:
            return [name + " " for name in self._run_names() if name.startswith(text)]
        return []

    # -- the subcommands

    def _carry_out(self, command: str, words: List[str]) -> None:
        try:
            getattr(self, "_" + command)(words)
        except _Usage:
            arguments = COMMANDS[command][0]
            usage = "usage: flowherd {} {}".format(command, arguments).rstrip()
            self._fail(usage, LSBInitExitStatuses.INVALID_ARGS)
        except xmlrpc.client.Fault as error:
            self._show_fault(command, error)

    def _health(self, words: List[str]) -> None:
        _none(words)
        facts = self._call("health")
        self._print("{}   pid {}, {}".format(facts["agent"], facts["pid"], facts["summary"]))
        if facts["status"] == "unwell":
            self.ctl.exitstatus = LSBInitExitStatuses.GENERIC

    def _runs(self, words: List[str]) -> None:
        if words not in ([], ["--ended"]):
            raise _Usage
        for line in shown.run_lines(self._call("ended" if words else "runs")):
            self._print(line)

    def _explain(self, words: List[str]) -> None:
        for line in shown.story_lines(self._call("explain", _one(words))):
            self._print(line)

    def _logs(self, words: List[str]) -> None:
        follows = "-f" in words
        counts = [word for word in words if word[:1] == "-" and word[1:].isdigit()]
        run = _one([word for word in words if word != "-f" and word not in counts])
        answer = self._call("logs", run, int(counts[-1][1:]) if counts else 100)
        self._print_log(answer)
        if follows and "end" in answer:
            try:
                self._follow(answer)
            except KeyboardInterrupt:
                self._print("")

    def _follow(self, answer: Dict[str, Any]) -> None:
        is_last, printed = False, answer["lines"][-1:]
        while not is_last:
            # One more look after the end: the last lines may have come in between.
            is_last = answer["finished"]
            if not is_last:
                time.sleep(_FOLLOW_S)
            read = -1
            while "end" in answer and answer["end"] != read:
                read = answer["end"]
                answer = self._call("logs", answer["id"], _MOST_LINES, read)
                if "end" not in answer:  # the run has ended, and its log is only at the server
                    answer["lines"] = shown.lines_after(answer["lines"], printed)
                printed = answer["lines"][-1:] or printed
                self._print_log(answer)

    def _run(self, words: List[str]) -> None:
        if not words or not all("=" in word for word in words[1:]):
            raise _Usage
        parameters = {name: _value(text) for name, _, text in (word.partition("=") for word in words[1:])}
        self._print(self._call("run", words[0], parameters)["id"])

    def _cancel(self, words: List[str]) -> None:
        for run in _some(words):
            answer = self._one_of("cancel", run)
            if answer and answer["was_finished"]:
                self._fail("{name} ({id}) was finished already: {state}".format(**answer))
            elif answer:
                self._print("{name} ({id}): {state}".format(**answer))

    def _retry(self, words: List[str]) -> None:
        for run in _some(words):
            answer = self._one_of("retry", run)
            if answer:
                self._print("{id} repeats {name} ({repeats})".format(**answer))

    def _poke(self, words: List[str]) -> None:
        _none(words)
        self._call("poke")

    def _pause(self, words: List[str]) -> None:
        self._change("pause", words)

    def _resume(self, words: List[str]) -> None:
        self._change("resume", words)

    def _restart(self, words: List[str]) -> None:
        self._change("restart", words)

    def _drain(self, words: List[str]) -> None:
        if len(words) > 1 or not all(word.isdigit() for word in words):
            raise _Usage
        answer = self._call("drain", *(float(word) for word in words))
        self._print("{}: {}".format(answer["agent"], answer["summary"]))

    def _reload(self, words: List[str]) -> None:
        _none(words)
        report = self._call("reload")
        for line in report["lines"]:
            self._print(line)
        if report["refused"]:
            self.ctl.exitstatus = LSBInitExitStatuses.GENERIC

    def _change(self, method: str, words: List[str]) -> None:
        _none(words)
        answer = self._call(method)
        self._print("{}: {}".format(answer["agent"], answer["summary"]))

    # -- supervisord

    def _call(self, method: str, *arguments: Any) -> Any:
        return getattr(self.ctl.get_server_proxy(self._namespace), method)(*arguments)

    def _one_of(self, method: str, run: str) -> Optional[Dict[str, Any]]:
        """Call a method for one of several runs; after a fault that concerns this run alone go on with the others."""
        try:
            answer: Dict[str, Any] = self._call(method, run)
            return answer
        except xmlrpc.client.Fault as error:
            if error.faultCode in (supervisor_xmlrpc.Faults.UNKNOWN_METHOD, supervisor_xmlrpc.Faults.NOT_RUNNING):
                raise
            self._fail("{}: ERROR ({})".format(run, error.faultString))
            return None

    def _show_fault(self, command: str, error: xmlrpc.client.Fault) -> None:
        if error.faultCode == supervisor_xmlrpc.Faults.UNKNOWN_METHOD:
            text = (
                "error: this supervisord has no [rpcinterface:{}] with this method; `flowherd install supervisord` "
                "prints the section, and supervisord reads it when it is started again".format(self._namespace)
            )
            self._fail(text, LSBInitExitStatuses.UNIMPLEMENTED_FEATURE)
        elif error.faultCode == supervisor_xmlrpc.Faults.NOT_RUNNING:
            is_health = command == "health"
            code = LSBStatusExitStatuses.NOT_RUNNING if is_health else LSBInitExitStatuses.NOT_RUNNING
            self._fail("error: " + error.faultString, code)
        elif error.faultCode == supervisor_xmlrpc.Faults.BAD_ARGUMENTS:
            self._fail("error: " + error.faultString, LSBInitExitStatuses.INVALID_ARGS)
        else:
            self._fail("error: " + error.faultString)

    def _run_names(self) -> List[str]:
        at_s, names = self._names
        if time.monotonic() - at_s > _NAMES_S:
            runs = [*self._call("runs"), *self._call("ended")]
            names = [run.get("name") or run["id"] for run in runs]
            self._names = time.monotonic(), names
        return names

    # -- output

    def _print_log(self, answer: Mapping[str, Any]) -> None:
        for line in shown.log_lines(answer["lines"]):
            self._print(line)

    def _print(self, text: str) -> None:
        encoding = getattr(self.ctl.stdout, "encoding", None) or "utf-8"
        self.ctl.output(text.encode(encoding, "replace").decode(encoding))

    def _fail(self, text: str, code: int = LSBInitExitStatuses.GENERIC) -> None:
        self._print(text)
        self.ctl.exitstatus = code


def _extend(controller: Any, plugin: FlowherdPlugin) -> None:
    """Give supervisorctl the plugin's completion and help, for which it has no call (supervisor/supervisorctl.py)."""
    original: Callable[..., Optional[str]] = controller.complete

    def complete(text: str, state: int, line: Optional[str] = None) -> Optional[str]:
        import readline

        whole = readline.get_line_buffer() if line is None else line
        if not whole.startswith("flowherd "):
            return original(text, state, line)
        try:
            matches = plugin.complete(text, whole)
        except Exception:  # a completion must not end the line that is being typed
            matches = []
        return matches[state] if state < len(matches) else None

    controller.complete = complete
    # Of all plugins the first says that there is no help on a topic that it does not have.
    for other in controller.options.plugins[:1]:
        other.help_flowherd = plugin.help_flowherd


def _none(words: List[str]) -> None:
    if words:
        raise _Usage


def _one(words: List[str]) -> str:
    if len(words) != 1 or words[0].startswith("-"):
        raise _Usage
    return words[0]


def _some(words: List[str]) -> List[str]:
    if not words or words[0].startswith("-"):
        raise _Usage
    return words


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
