"""What keeps a planned run apart: level and paths of its spec, and what would run or be read outside for it.

flowherd's fork servers and its runner stay outside of what keeps the run apart. So what a flow names must not make
them run its code or read for it what it could not: such a flow is refused, with a sentence, or carried out without.
"""

from __future__ import annotations

import functools
import os.path
import re
import stat
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flowherd.engines.base import AgentDefaults, Engine
from flowherd.engines.run_config import expanded_path, strings, strings_by_name
from flowherd.engines.runtimes import together
from flowherd.engines.sealed_results import with_results
from flowherd.engines.start_variables import is_read_at_start
from flowherd.errors import UnsupportedStorage
from flowherd.isolation.levels import merged, place_of, real_paths, requested_isolation
from flowherd.weights import before_agent
from flowherd_runner import BOOT_FILE
from flowherd_runner.contract.isolation import NONE, SEALED, Isolation
from flowherd_runner.contract.spec import RunSpec
from flowherd_runner.contract.variables import KIND_COMMAND

#: Where flowherd's side of a run lies.
_OWN_CODE = str(Path(BOOT_FILE).parent)
#: Where the agent's own temporary files are, which are not the run's.
_TEMPORARY = ("TMPDIR", "TEMP", "TMP", "XDG_RUNTIME_DIR")
#: Every run has its own of these.
_REPLACED = ("/tmp", "/var/tmp", "/dev/shm")
#: Variables that a process reads when it starts, and that load no code and read no file: how much, and in which form.
_HARMLESS = re.compile(
    r"LANG|LANGUAGE|LC_[A-Z]+|MALLOC_[A-Z_]+|[A-Z]+_NUM_THREADS"
    r"|PYTHON(HASHSEED|UTF8|IOENCODING|UNBUFFERED|DONTWRITEBYTECODE|OPTIMIZE|FAULTHANDLER|TRACEMALLOC|MALLOC|DEVMODE"
    r"|NOUSERSITE|SAFEPATH|COERCECLOCALE|INTMAXSTRDIGITS)"
)
#: Names of the interpreter in the directory of programs of one environment.
_PYTHON = re.compile(r"python(\d+(\.\d+)?)?")


def kept_apart(
    spec: RunSpec, engine: Engine, config: Mapping[str, Any], defaults: AgentDefaults, stored: Collection[str] = ()
) -> RunSpec:
    """Return the spec of a run with what its agent and its run config ask for to keep it apart.

    `stored` are the files in which the flow's storage has it.

    Raises UnsupportedStorage if that cannot be understood, or cannot be had with what else the flow names.
    """
    try:
        isolation = merged(defaults.isolation, requested_isolation(config))
    except ValueError as error:
        raise UnsupportedStorage(f"The flow run cannot be kept apart: {error}") from error
    if not isolation.wanted:
        return spec
    spec = _in_own_directory(spec, config, isolation)
    code = tuple(_own_code(spec, stored))
    isolation = isolation._replace(keep=_kept(spec, engine, defaults, code, isolation.hide))
    _check_places(spec, isolation, config, defaults, code)
    _check_outside(spec, isolation, config, defaults)
    _check_weights(isolation, config)
    spec = _with_read_only_noted(spec, isolation)
    _check_network(spec, isolation, engine)
    if spec.kind in engine.kinds:
        spec, isolation = with_results(spec, isolation, engine.results, strings_by_name(config.get("env")))
    return _without_unknown_modules(spec, isolation, engine, defaults)._replace(
        isolation=isolation,
        # Real paths: the runner reads nothing by a name that has become a link to what the run does not see.
        secrets={name: _real_source(source) for name, source in spec.secrets.items()},
        env_files=real_paths(spec.env_files),
        env_removed=tuple(sorted({*spec.env_removed, *(name for name in _TEMPORARY if name not in spec.env)})),
    )


def _in_own_directory(spec: RunSpec, config: Mapping[str, Any], isolation: Isolation) -> RunSpec:
    """Return the spec with a fresh working directory in place of the agent's, which engines of old take otherwise.

    A sealed run changes what is in its working directory, and the agent's may hold anything.
    """
    if spec.working_dir is None or config.get("working_dir"):
        return spec
    is_out_of_sight = place_of(os.path.realpath(spec.working_dir), isolation.covered) is not None
    return spec._replace(working_dir=None) if isolation.level == SEALED or is_out_of_sight else spec


def _with_read_only_noted(spec: RunSpec, isolation: Isolation) -> RunSpec:
    """Return the spec with a warning if the run cannot change its working directory, which few flows expect."""
    directory = spec.working_dir
    if directory is None or isolation.floor != SEALED or place_of(os.path.realpath(directory), isolation.write):
        return spec
    warning = (
        f"Its working directory, {directory}, cannot be changed by the run: the agent seals its runs, and its `write` "
        "in [runs.isolation] does not name it. Temporary files can be written"
    )
    return spec._replace(agent=spec.agent._replace(warnings=(*spec.agent.warnings, warning)))


def _kept(
    spec: RunSpec, engine: Engine, defaults: AgentDefaults, code: Sequence[str], hidden: Sequence[str]
) -> tuple[str, ...]:
    """Return what stays reachable wherever it lies: what the agent knows, and code of the flow's in /tmp and the like.

    Nothing else that a flow names: by that, it could have shown what is covered because it leads out of the run.
    """
    interpreters = (spec.agent.interpreter, spec.runtime)
    others = (one for one in interpreters if one != sys.executable)
    places = [place for interpreter in others for place in _environment_of(interpreter)]
    if engine.kind_file is not None:
        places.append(str(engine.kind_file.parent))
    paths = (path for path in spec.env.get("PYTHONPATH", "").split(os.pathsep) if path.startswith("/"))
    named = real_paths([*code, *_beside(spec), *paths])
    seen = (path for path in named if place_of(path, hidden) is None)
    of_flow = [path for path in seen if _is_below(path, _REPLACED) and not _socket_below(path)]
    own = _own_places(with_interpreter=sys.executable in interpreters)
    return tuple(dict.fromkeys([*own, *real_paths([*places, *defaults.absolute_import_paths]), *of_flow]))


@functools.cache
def _own_places(*, with_interpreter: bool) -> tuple[str, ...]:
    """Return where this process's own code lies, and its interpreter; both are loaded, so they are looked up once."""
    interpreter = (sys.prefix, sys.base_prefix, sys.exec_prefix, *_environment_of(sys.executable))
    return real_paths([_OWN_CODE, *(interpreter if with_interpreter else ())])


def _is_below(path: str, places: Sequence[str]) -> bool:
    return path not in places and place_of(path, places) is not None


def _environment_of(interpreter: str | None) -> Iterator[str]:
    """Yield the directory of the environment whose Python this is; its base is known in the run only."""
    if interpreter is None or not interpreter.startswith("/"):
        return
    programs = Path(interpreter).parent
    if programs.name == "bin" and programs.parent != Path("/"):
        yield str(programs.parent)
    yield interpreter


def _file_of(spec: RunSpec) -> str:
    """Return the file of a Python flow; empty, or the name of a module, if there is none."""
    ref = str(spec.target.get("ref") or "")
    return ref.rpartition(":")[0] or ref


def _beside(spec: RunSpec) -> Iterator[str]:
    """Yield the directory of the flow's file, from which it imports."""
    if (file := _file_of(spec)).startswith("/"):
        yield str(Path(file).parent)


def _own_code(spec: RunSpec, stored: Collection[str]) -> Iterator[str]:
    """Yield the flow's file, those in which its storage has it, and the files that a command names."""
    words = [_file_of(spec), *stored]
    argv = spec.target.get("argv")
    if isinstance(argv, (list, tuple)):
        words += map(str, argv)
    for word in words:
        # Not the directory: what lies beside a script in /tmp is not the script.
        if word.startswith("/") and Path(word).is_file():
            yield word


def _check_places(
    spec: RunSpec, isolation: Isolation, config: Mapping[str, Any], defaults: AgentDefaults, code: Sequence[str]
) -> None:
    """Refuse a run that needs what it would not see, or whose flow names a way out."""
    chosen_dir = expanded_path(config.get("working_dir"))
    named = [("its working directory", chosen_dir), *(("its code", file) for file in code)]
    named += [("a path that it may write", path) for path in isolation.write]
    for what, path in (
        ("flowherd itself", _OWN_CODE),
        ("its interpreter", spec.agent.interpreter if spec.kind != KIND_COMMAND else spec.runtime),
        *(("an import path", path) for path in defaults.absolute_import_paths),
        *named,
    ):
        if path and (cover := _place_of_link(path, isolation.covered)) is not None:
            raise _refusal(isolation, f"{what}, {_within(path, cover)} such runs do not see: move it elsewhere")
    for what, path in named:
        if path and (cover := _place_of_link(path, isolation.hide)) is not None:
            raise _refusal(isolation, f"{what}, {_within(path, cover)} is hidden from it: move it elsewhere")
        if path and defaults.isolation.level != NONE and (name := _socket_below(os.path.realpath(path))):
            raise _refusal(
                isolation,
                f"{what}, {path}, has {name} in it, a socket of another program, which could lead out of the run: use "
                "another place",
            )


def _socket_below(path: str) -> str:
    """Return the name of a socket in a directory in /tmp or the like; empty if there is none.

    There terminals and agents of keys have theirs, which a /tmp of the run's own puts out of sight.
    """
    if not _is_below(path, _REPLACED):
        return ""
    try:
        with os.scandir(path) as entries:
            return next((one.name for one in entries if stat.S_ISSOCK(one.stat(follow_symlinks=False).st_mode)), "")
    except OSError:  # no directory, or none that can be read
        return ""


def _within(path: str, cover: str) -> str:
    """Return that a path lies in a place, or is that place, up to what is wrong with the place."""
    return f"{path}, is a place that" if path == cover else f"{path}, is in {cover}, which"


def _place_of_link(path: str, places: Sequence[str]) -> str | None:
    """Return in which of `places` a path lies, or what it leads to; None if in none of them."""
    directory, name = os.path.split(path)
    return place_of(f"{os.path.realpath(directory)}/{name}", places) or place_of(os.path.realpath(path), places)


def _check_outside(spec: RunSpec, isolation: Isolation, config: Mapping[str, Any], defaults: AgentDefaults) -> None:
    """Refuse a run whose flow would have code loaded, or files read, by what is outside of it."""
    if spec.kind != KIND_COMMAND:
        _check_interpreter(spec.agent.interpreter, isolation, defaults)
        for name, value in strings_by_name(config.get("env")).items():
            is_code = is_read_at_start(name, preloads=True) and not _HARMLESS.fullmatch(name)
            if is_code and value not in (os.environ.get(name), defaults.env_vars.get(name)):
                raise _refusal(
                    isolation,
                    f"the variable {name} of its run config would count in flowherd's fork server, which is outside of "
                    "the run: set it for the agent (`flowherd start -e`), or make the flow a command, as in "
                    f"env {name}=... python flow.py",
                )
    unseen = (*isolation.covered, *real_paths(defaults.isolation.hide))
    named = strings_by_name(config.get("secrets"))
    places = [(f"the secret {name}", source[5:]) for name, source in named.items() if source.startswith("file:")]
    places += [("a file of variables", path) for path in strings(config.get("env_files"))]
    for what, path in places:
        if (cover := place_of(real_paths([path])[0], unseen)) is not None:
            raise _refusal(
                isolation,
                f"{what} would be read from {path}, and such a run must not know what is in {cover}: keep it "
                "elsewhere, or name it in the agent's own settings, runs.secrets or runs.env_files",
            )


def _real_source(source: str) -> str:
    kind, _, place = source.partition(":")
    return f"file:{real_paths([place])[0]}" if kind == "file" else source


def _check_weights(isolation: Isolation, config: Mapping[str, Any]) -> None:
    """Refuse a run that would get the processors before the agent, or outlive it when the memory is used up."""
    named = config.get("weights")
    if isinstance(named, Mapping) and (lower := before_agent(named)):
        raise _refusal(isolation, f"its run config asks for {lower}: set it for all runs of the agent, in [runs]")


def _check_network(spec: RunSpec, isolation: Isolation, engine: Engine) -> None:
    """Refuse a run whose engine would wait for its server for ever."""
    if isolation.network == "none" and engine.reports_states and spec.kind in engine.kinds:
        raise _refusal(
            isolation,
            "without a network its engine cannot reach its server, which it must ask and tell everything: give the run "
            "the network of the host, or make the flow a command",
        )


def _check_interpreter(interpreter: str, isolation: Isolation, defaults: AgentDefaults) -> None:
    known = [sys.executable, *(rule.interpreter for rule in defaults.runtimes)]
    program, name = os.path.split(interpreter)
    if interpreter in known or (_PYTHON.fullmatch(name) and program in map(os.path.dirname, known)):
        return
    raise _refusal(
        isolation,
        f"its interpreter, {interpreter}, would be started outside of the run, so it must be one of the agent's: add "
        f"`--runtime NAME={interpreter}` to `flowherd start`, or an entry to [[runtimes]]",
    )


def _without_unknown_modules(spec: RunSpec, isolation: Isolation, engine: Engine, defaults: AgentDefaults) -> RunSpec:
    """Return the spec without modules to preload that only the flow names: the run imports them itself, inside."""
    rules = [rule.preload for rule in defaults.runtimes if rule.interpreter == spec.agent.interpreter]
    own = defaults.preload if spec.agent.interpreter == sys.executable else ()
    known = together(engine.preload_for(spec.kind), own, *rules)
    left_out = [name for name in spec.agent.preload if name not in known]
    if not left_out or spec.kind == KIND_COMMAND:
        return spec
    warning = (
        f"Not preloaded, because this run is {isolation.level} and a fork server is not: {', '.join(left_out)}. The "
        "agent's own agent.preload, or a runtime's, can name them"
    )
    kept = tuple(name for name in spec.agent.preload if name in known)
    return spec._replace(agent=spec.agent._replace(preload=kept, warnings=(*spec.agent.warnings, warning)))


def _refusal(isolation: Isolation, why: str) -> UnsupportedStorage:
    return UnsupportedStorage(f"The flow run is to be {isolation.level}, but {why}.")
