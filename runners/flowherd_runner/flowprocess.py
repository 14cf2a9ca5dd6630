"""The forked child on its way to the user's code: descriptors, signals, limits, user, environment, directory, kind.

Whatever goes wrong before the user's code is reached is told to the runner as one sentence.
"""

import json
import os
import pwd
import resource
import traceback
from typing import Dict, List, Mapping, NamedTuple, NoReturn, Optional, Tuple

from flowherd_runner import osapi
from flowherd_runner.contract.reasons import FLOW_NOT_STARTED
from flowherd_runner.contract.spec import Limits, RunSpec
from flowherd_runner.contract.variables import (
    FLOW_NAME_VARIABLE,
    PARAMETER_PREFIX,
    PARAMETERS_VARIABLE,
    RUN_ID_VARIABLE,
    RUN_NAME_VARIABLE,
)
from flowherd_runner.errors import NotStarted
from flowherd_runner.kinds import KINDS, Kind
from flowherd_runner.kinds.flow import Flow
from flowherd_runner.logcapture import RecordSender
from flowherd_runner.process_mark import mark_process

_WORK_DIRECTORY = "work"
#: MAX_ARG_STRLEN of execve(2): no single string of an environment may be longer.
_MAX_VARIABLE_BYTES = 128 * 1024 - 1
#: Between SIGXCPU at the limit and the kernel's SIGKILL.
_CPU_GRACE_S = 5


class WritingEnds(NamedTuple):
    """The flow process's side of what the runner made."""

    stdout_fd: int
    stderr_fd: int
    channel_fd: int
    #: Readable once the runner has put the start on record; at its end when the runner is gone.
    go_fd: int


class Origin(NamedTuple):
    """What the flow process takes over from the fork server, or must know of its runner."""

    directory: str
    runner_pid: int
    umask: int
    #: Descriptors of preloaded modules, for kinds that run in the fork itself.
    kept_fds: osapi.Descriptors
    #: Tells this run's markers from anything that a process prints.
    token: bytes
    #: Why the user's code must not be started; None when nothing is in its way.
    refusal: Optional[str] = None


def become_flow(spec: RunSpec, origin: Origin, ends: WritingEnds) -> NoReturn:
    """In the forked child: prepare, wait for the runner's word, be the user's code."""
    sender = RecordSender(ends.channel_fd, origin.token)
    try:
        flow, kind = _prepare(spec, origin, ends)
        if not os.read(ends.go_fd, 1):
            os._exit(FLOW_NOT_STARTED)
        os.close(ends.go_fd)
        kind.run(flow)
    except NotStarted as error:
        sender.send({"not_started": str(error)})
    except BaseException as error:  # nothing may return into the runner's code
        traceback.print_exc()
        sender.send({"not_started": "the run could not be prepared: {}: {}".format(type(error).__name__, error)})
    os._exit(FLOW_NOT_STARTED)


def _prepare(spec: RunSpec, origin: Origin, ends: WritingEnds) -> Tuple[Flow, Kind]:
    kind = KINDS.get(spec.kind)
    in_fork = kind is not None and kind.in_fork
    os.setpgid(0, 0)
    mark_process(spec.flow_run_id)
    _arrange_fds(ends, origin.kept_fds if in_fork else {})
    osapi.reset_signals(python=in_fork)
    os.umask(origin.umask)
    if origin.refusal is not None:
        raise NotStarted(origin.refusal)
    if kind is None:
        raise NotStarted(
            "runs of the kind {!r} are not known here, only {}".format(spec.kind, ", ".join(sorted(KINDS)))
        )
    user = _user(spec.user)
    _set_limits(spec.limits)
    if spec.working_dir is None:
        # Entered before the user changes: the run directory around it is closed to other users.
        working_dir = _enter_own_directory(origin.directory, user)
        _become(user)
    else:
        _become(user)
        working_dir = _enter(spec.working_dir)
    osapi.die_with_parent(origin.runner_pid)
    environment, left_out = compose_environment(spec, os.environ, user)
    sender = RecordSender(ends.channel_fd, origin.token)
    for name in left_out:
        sender.send({"notice": "the variable {} cannot be carried by an environment and was left out".format(name)})
    return Flow(spec, working_dir, environment, sender), kind


def _arrange_fds(ends: WritingEnds, kept_fds: osapi.Descriptors) -> None:
    """Null, the two pipes, the channel, and nothing of the runner's: neither its lock nor its journal."""
    os.dup2(ends.stdout_fd, 1)
    os.dup2(ends.stderr_fd, 2)
    own = {fd: osapi.file_identity(fd) for fd in (ends.channel_fd, ends.go_fd)}
    osapi.close_others({**kept_fds, **own})


def _set_limits(limits: Limits) -> None:
    if limits.open_files is not None:
        _set_limit(resource.RLIMIT_NOFILE, limits.open_files, limits.open_files, "open files")
    if limits.cpu_time_s is not None:
        _set_limit(resource.RLIMIT_CPU, limits.cpu_time_s, limits.cpu_time_s + _CPU_GRACE_S, "CPU seconds")


def _set_limit(which: int, soft: int, hard: int, what: str) -> None:
    highest = resource.getrlimit(which)[1]
    if highest != resource.RLIM_INFINITY:
        hard = min(hard, highest)
    try:
        resource.setrlimit(which, (soft, hard))
    except (ValueError, OSError) as error:
        text = "the limit of {} {} cannot be set, this host allows {}: {}"
        raise NotStarted(text.format(soft, what, highest, error)) from error


def _user(name: Optional[str]) -> Optional[pwd.struct_passwd]:
    """The account to change to; None when the run stays with the agent's own."""
    if name is None:
        return None
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        raise NotStarted("there is no user {} on this host".format(name)) from None
    if account.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise NotStarted("cannot run as user {}: the agent is not root".format(name))
    return account


def _become(user: Optional[pwd.struct_passwd]) -> None:
    if user is None:
        return
    try:
        os.initgroups(user.pw_name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    except OSError as error:
        raise NotStarted("cannot become user {}: {}".format(user.pw_name, error.strerror)) from error
    osapi.allow_inspection()


def _enter_own_directory(directory: str, user: Optional[pwd.struct_passwd]) -> str:
    path = os.path.join(directory, _WORK_DIRECTORY)
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        if user is not None:
            os.chown(path, user.pw_uid, user.pw_gid)
        os.chdir(path)
    except OSError as error:
        raise NotStarted("the working directory {} cannot be made: {}".format(path, error.strerror)) from error
    return path


def _enter(path: str) -> str:
    try:
        os.chdir(path)
    except FileNotFoundError:
        raise NotStarted("working directory {} does not exist".format(path)) from None
    except (OSError, ValueError) as error:
        raise NotStarted("working directory {} cannot be entered: {}".format(path, error)) from error
    return os.path.abspath(path)


def compose_environment(
    spec: RunSpec, base: Mapping[str, str], user: Optional[pwd.struct_passwd]
) -> Tuple[Dict[str, str], List[str]]:
    """The run's environment, and the names that had to be left out because execve(2) would refuse their values."""
    composed = dict(base)
    if user is not None:
        composed.update(HOME=user.pw_dir, USER=user.pw_name, LOGNAME=user.pw_name, SHELL=user.pw_shell)
    composed.update(spec.env)
    composed[RUN_ID_VARIABLE] = spec.flow_run_id
    composed[RUN_NAME_VARIABLE] = spec.flow_run_name
    composed[FLOW_NAME_VARIABLE] = spec.flow_name
    composed[PARAMETERS_VARIABLE] = json.dumps(spec.parameters)
    for name, value in spec.parameters.items():
        composed[PARAMETER_PREFIX + name] = value if isinstance(value, str) else json.dumps(value)
    left_out = [name for name, value in composed.items() if not _fits(name, value)]
    for name in left_out:
        del composed[name]
    return composed, left_out


def _fits(name: str, value: str) -> bool:
    """Whether execve(2) can carry the variable."""
    if "=" in name or "\0" in name or "\0" in value:
        return False
    try:
        return len(os.fsencode(name)) + len(os.fsencode(value)) + 2 <= _MAX_VARIABLE_BYTES
    except UnicodeEncodeError:
        return False
