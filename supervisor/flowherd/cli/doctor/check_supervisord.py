"""Checks the supervisord that runs the agent: its version, the program's section, flowherd's plugins, its socket."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flowherd.cli.doctor.finding import Finding, bad, ok, warn
from flowherd.config import LoadedSettings
from flowherd.supervisord import plugin_import
from flowherd.supervisord.configuration_files import Configuration, configuration_of
from flowherd.supervisord.rpc import Access, Fault, SupervisordError, call, find_access, program_state

#: Versions with which flowherd is tested.
_TESTED = ("4.2", "4.3")
#: Name of the file of a program without stdout_logfile (get_autochildlog_name in supervisor/options.py).
_AUTOMATIC_LOG = re.compile(r"-stdout---[^/]+\.log$")
_PRINT = "`flowherd install supervisord` prints the section"
_PLUGINS = "supervisord's plugins"


def check_supervisord(
    loaded: LoadedSettings, program: str, url: str | None, configuration: str | None
) -> Iterator[Finding]:
    """Check a running supervisord that has the program; nothing is found out about any other.

    `url` and `configuration` say how it is reached, by default as supervisorctl would.
    """
    try:
        access = find_access(url, configuration)
        if access is None or program_state(access, program).state is None:
            return
        version = str(call(access, "getSupervisorVersion"))
        sections = [each for each in call(access, "getAllConfigInfo") if each.get("name") == program]
        methods = set(call(access, "system.listMethods"))
        files = configuration_of(access)
    except SupervisordError:  # check_agent.check_supervisor reports it
        return
    yield _version(version)
    for section in sections:
        yield from _section(section, loaded)
    yield from _plugins(access, methods, files)
    yield from _socket(access)


def _version(version: str) -> Finding:
    if version.startswith(tuple(f"{known}." for known in _TESTED)) or version in _TESTED:
        return ok("supervisord's version", version)
    advice = f"flowherd is tested with {' and '.join(_TESTED)}"
    return warn("supervisord's version", version, advice)


def _section(section: Mapping[str, Any], loaded: LoadedSettings) -> Iterator[Finding]:
    name, check = section["name"], "supervisord's section"
    log = str(section.get("stdout_logfile"))
    problems = []
    if log == "auto" or _AUTOMATIC_LOG.search(log):
        problems.append("has no stdout_logfile: supervisord deletes the agent's log whenever it starts")
    if section.get("killasgroup") is True:
        problems.append("has killasgroup=true, which is for programs whose children are to end with them")
    agent = loaded.settings.agent
    needed_s = agent.drain_deadline + agent.grace
    if section.get("stopwaitsecs", needed_s) < needed_s:
        problems.append(
            f"has stopwaitsecs={section['stopwaitsecs']}, and a draining agent may need {needed_s:g} s (drain deadline "
            "and grace) before it is killed"
        )
    for problem in problems:
        yield warn(check, f"[program:{name}] {problem}", f"correct it; {_PRINT}")
    if not problems:
        yield ok(check, f"[program:{name}] keeps its log in {log} and leaves time to drain")


def _plugins(access: Access, methods: set[str], files: Configuration | None) -> Iterator[Finding]:
    namespaces = sorted({name.partition(".")[0] for name in methods if name.endswith(".explain")})
    for namespace in namespaces:
        yield _answer_of(access, namespace)
    if files is None:
        return
    of_flowherd = files.sections_with(plugin_import.PACKAGE)
    if of_flowherd:
        yield from _importable(access, of_flowherd)
    for section, path in of_flowherd.items():
        if section.startswith("ctlplugin:") and path != files.main:
            detail = f"[{section}] is in {path}, which supervisorctl does not read: it ignores [include]"
            yield warn(_PLUGINS, detail, f"move the section to {files.main}")
        if section.startswith("rpcinterface:") and not namespaces:
            detail = f"[{section}] is in {path}, and the running supervisord does not have it"
            advice = "`supervisorctl reload` starts supervisord again, with all programs; `update` is not enough"
            yield warn(_PLUGINS, detail, advice)
    if not of_flowherd and not namespaces:
        yield ok(_PLUGINS, "none of flowherd's; `flowherd install supervisord --plugins` prints their sections")


def _answer_of(access: Access, namespace: str) -> Finding:
    try:
        health = call(access, f"{namespace}.health")
        return ok(_PLUGINS, f"[rpcinterface:{namespace}] reaches agent {health['agent']!r}: {health['summary']}")
    except Fault as error:
        advice = f"correct socket= in [rpcinterface:{namespace}], or start that agent; {_PRINT}"
        return warn(_PLUGINS, f"[rpcinterface:{namespace}]: {error}", advice)
    except (SupervisordError, KeyError, TypeError) as error:
        return warn(_PLUGINS, f"[rpcinterface:{namespace}] gives no answer: {error!r}", "read supervisord's log")


def _importable(access: Access, sections: Mapping[str, Path]) -> Iterator[Finding]:
    try:
        interpreter = plugin_import.interpreter_of(access)
        problem = plugin_import.import_problem(interpreter)
        line = plugin_import.importable_line(interpreter) if problem else ""
    except SupervisordError as error:
        yield warn(_PLUGINS, f"whether they can be imported is not known: {error}", "run this command as root")
        return
    if problem:
        listed = ", ".join(f"[{section}] of {path}" for section, path in sections.items())
        detail = f"{interpreter} cannot import them ({problem}): with {listed} supervisord does not start again"
        yield bad(_PLUGINS, detail, f"`{line}`, or remove the sections")
        return
    package = plugin_import.imported_from(interpreter)
    if interpreter.uid == 0 and package is not None and plugin_import.may_be_changed_by_others(package, 0):
        detail = f"supervisord runs as root and imports {package}, which other users can change"
        yield bad(_PLUGINS, detail, "copy the directory to a place of root's")
    else:
        yield ok(_PLUGINS, f"{interpreter} can import them")


def _socket(access: Access) -> Iterator[Finding]:
    found = re.fullmatch(r"unix://(/.*)", access.url)
    if found is None:
        return
    try:
        mode = Path(found[1]).stat().st_mode
    except OSError:
        return
    who = [word for bit, word in ((stat.S_IWGRP, "its group"), (stat.S_IWOTH, "everybody")) if mode & bit]
    detail = f"{found[1]}, mode {stat.S_IMODE(mode):04o}"
    if who and access.password is None:
        advice = "intended? else chmod=0700 in [unix_http_server]: it allows them to run programs as supervisord's user"
        yield warn("supervisord's socket", f"{detail}: {' and '.join(who)} may use supervisord", advice)
    else:
        yield ok("supervisord's socket", detail)
