"""Prepares the forked child for the user's code: descriptors, signals, limits, user, directory, environment.

It is forked before its run is known, so everything that differs between runs comes after the run's order
(flow_orders.py). Any error before the user's code is reached is reported to the runner in one sentence.
"""

import json
import os
import pwd
import resource
import sys
import traceback
from functools import partial
from typing import Callable, Dict, List, Mapping, NamedTuple, NoReturn, Optional, Tuple, Union

from flowherd_runner import osapi
from flowherd_runner.contract.fields import SpecError
from flowherd_runner.contract.isolation import in_force_to_json
from flowherd_runner.contract.reasons import FLOW_NOT_STARTED
from flowherd_runner.contract.spec import RunLimits, RunSpec, spec_of
from flowherd_runner.contract.variables import (
    FLOW_NAME_VARIABLE,
    KIND_COMMAND,
    PARAMETER_PREFIX,
    PARAMETERS_VARIABLE,
    RUN_ID_VARIABLE,
    RUN_NAME_VARIABLE,
)
from flowherd_runner.flow_orders import NotGoing, Order, is_read_for, receive_order, receive_variables, wait_for_go
from flowherd_runner.isolation import capabilities
from flowherd_runner.isolation.enclosure import Enclosure
from flowherd_runner.isolation.namespaces import Apart
from flowherd_runner.kinds import load_kind
from flowherd_runner.kinds.definition import FlowProcess, Kind, NotStarted
from flowherd_runner.other_user import enter_own_directory, forget_others, import_for, login_environment
from flowherd_runner.output_segments import Segments
from flowherd_runner.process_mark import mark_process
from flowherd_runner.record_sender import RecordSender
from flowherd_runner.runtime_environment import enter_environment
from flowherd_runner.set_weights import set_weights

#: Maximum length of one string of an environment (MAX_ARG_STRLEN, execve(2)).
_MAX_VARIABLE_BYTES = 128 * 1024 - 1
#: Time between SIGXCPU at the limit and the kernel's SIGKILL, seconds of CPU time.
_CPU_GRACE_S = 5


class WritingEnds(NamedTuple):
    """The flow process's ends of the runner's pipes and channel."""

    stdout_fd: int
    stderr_fd: int
    channel_fd: int
    #: What the runner tells the flow process: see flow_orders.py. At end of file when the runner is gone.
    order_fd: int


class Inherited(NamedTuple):
    """What the flow process inherits from the fork server, and what it must know of its runner."""

    runner_pid: int
    umask: int
    #: Descriptors of preloaded modules, for kinds that run in the fork itself.
    kept_fds: osapi.Descriptors
    #: Distinguishes this run's markers from all that a process prints.
    token: bytes
    #: Memory shared with the runner, for a kind that runs in the fork itself.
    segments: Segments
    #: Called with the descriptor of the order, before that is read.
    while_waiting: Callable[[int], None]
    #: Whether this process is in a pid namespace of its own; None unless the run has a level of isolation.
    apart: Optional[Apart] = None


def become_flow(inherited: Inherited, ends: WritingEnds) -> NoReturn:
    """In the forked child: wait for a run, prepare it, wait for the word to go on, and become the user's code."""
    try:
        os.setpgid(0, 0)
        osapi.die_with_parent(inherited.runner_pid)
        _arrange_fds(ends, inherited.kept_fds)
        if inherited.apart is not None:
            capabilities.limit(capabilities.KEPT_OF_ROOT)  # no level leaves more, and there is time for it now
        inherited.while_waiting(ends.order_fd)
        order = receive_order(ends.order_fd)
        _carry_out(order, spec_of(order.spec), inherited, ends)
    except (NotGoing, SpecError):  # the runner is gone, or will report that the spec cannot be used
        pass
    except BaseException:  # nothing may return into the code of the runner
        traceback.print_exc()
    os._exit(FLOW_NOT_STARTED)


def _carry_out(order: Order, spec: RunSpec, inherited: Inherited, ends: WritingEnds) -> None:
    """Become the run's user code. Returns only when it could not be reached. Raises NotGoing."""
    mark_process(spec.flow_run_id)
    sender = RecordSender(ends.channel_fd, inherited.token)
    try:
        go_on = _ready(order, spec, inherited, ends)
        wait_for_go(ends.order_fd)
        go_on()
    except NotStarted as error:
        sender.send({"not_started": str(error)})
    except NotGoing:
        raise
    except BaseException as error:  # nothing may return into the code of the runner
        traceback.print_exc()
        sender.send({"not_started": "the run could not be prepared: {}: {}".format(type(error).__name__, error)})


def _ready(order: Order, spec: RunSpec, inherited: Inherited, ends: WritingEnds) -> Callable[[], NoReturn]:
    """Prepare everything up to the user's code, and return what becomes it. Raises NotStarted and NotGoing."""
    refusal = None
    if is_read_for(spec):
        env, refusal = receive_variables(ends.order_fd)
        spec = spec._replace(env=env)
    kind = kind_of(spec)
    in_fork = isinstance(kind, Kind) and kind.in_fork
    _leave_runner(inherited, in_fork)
    if refusal is not None:
        raise NotStarted(refusal)
    if not isinstance(kind, Kind):
        raise kind
    sender = RecordSender(ends.channel_fd, inherited.token)
    enclose = partial(Enclosure, spec, order.directory, inherited.runner_pid, inherited.apart)
    flow = prepared_process(
        spec, order.directory, inherited.runner_pid, sender, in_fork, enclose if spec.isolation.wanted else None
    )
    if in_fork:
        flow = flow._replace(segments=inherited.segments)
    return partial(kind.run, flow) if kind.prepare is None else kind.prepare(flow)


def kind_of(spec: RunSpec) -> Union[Kind, NotStarted]:
    """Return the kind, or why it cannot be had; that is reported like every other reason not to start."""
    try:
        return load_kind(spec.kind, spec.kind_file)
    except NotStarted as error:
        return error


def _leave_runner(inherited: Inherited, in_fork: bool) -> None:
    """Undo what this process has in common with the runner; with `in_fork` it keeps what the interpreter set up."""
    osapi.allow_inspection()
    for fd, identity in inherited.kept_fds.items():
        if osapi.file_identity(fd) == identity:
            if in_fork:
                osapi.own_descriptor(fd)  # so that no other run moves the position in a file that a module reads
            else:
                os.close(fd)
    osapi.reset_signals(python=in_fork)
    os.umask(inherited.umask)


def prepared_process(
    spec: RunSpec,
    directory: str,
    runner_pid: int,
    sender: RecordSender,
    in_fork: bool,
    enclose: Optional[Callable[[Optional[pwd.struct_passwd]], Enclosure]] = None,
) -> FlowProcess:
    """Give this process the limits, user and directory of its run, and return it. Raises NotStarted.

    It is killed when the process `runner_pid`, its parent, ends. `enclose` makes what keeps it apart; its runner is
    told what is in force then.
    """
    user = _user(spec.user)
    _set_limits(spec.limits)
    set_weights(spec.weights)
    cannot_import = import_for(user) if user is not None and in_fork else None
    enclosure = enclose(user) if enclose is not None else None
    working_dir = spec.working_dir
    if working_dir is None:
        # Entered before the user changes: the run directory around it is closed to other users.
        working_dir = enter_own_directory(directory, spec.own_dir, user)
    if enclosure is not None:
        enclosure.mount(working_dir, is_own=spec.working_dir is None)
    _become(user)
    if spec.working_dir is not None:
        working_dir = _enter(spec.working_dir)
    osapi.die_with_parent(runner_pid)  # anew: a change of credentials has cleared it
    environment, left_out = compose_environment(spec, osapi.environment(), user)
    if user is not None:
        forget_others(environment)
    if enclosure is not None:
        environment.update((name, value) for name, value in enclosure.variables.items() if name not in spec.env)
        enclosure.lock()
        sender.send({"in_force": in_force_to_json(enclosure.prove())})
    if cannot_import is not None:
        sender.send({"notice": cannot_import})
    for name in left_out:
        sender.send({"notice": "the variable {} cannot be carried by an environment and was left out".format(name)})
    return FlowProcess(spec, working_dir, environment, sender)


def _arrange_fds(ends: WritingEnds, kept_fds: osapi.Descriptors) -> None:
    """Keep standard input, the pipes, the channel and what modules have; of the runner neither lock nor journal."""
    os.dup2(ends.stdout_fd, 1)
    os.dup2(ends.stderr_fd, 2)
    own = {fd: osapi.file_identity(fd) for fd in (ends.channel_fd, ends.order_fd)}
    osapi.close_others({**kept_fds, **own})


def _set_limits(limits: RunLimits) -> None:
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
    """Return the account to change to; None when the run keeps the agent's."""
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
    """Return the run's environment, and the names that are left out because execve(2) would refuse their values."""
    composed = dict(base) if user is None else login_environment(base, user, spec.user_env)
    interpreter = spec.runtime if spec.kind == KIND_COMMAND else sys.executable
    if interpreter:
        enter_environment(composed, interpreter)
    for name in spec.env_removed:
        composed.pop(name, None)
    composed.update(spec.env)
    composed[RUN_ID_VARIABLE] = spec.flow_run_id
    composed[RUN_NAME_VARIABLE] = spec.flow_run_name
    composed[FLOW_NAME_VARIABLE] = spec.flow_name
    composed[PARAMETERS_VARIABLE] = json.dumps(spec.parameters)
    for name, value in spec.parameters.items():
        composed[PARAMETER_PREFIX + name] = value if isinstance(value, str) else json.dumps(value)
    new = [name for name, value in composed.items() if base.get(name) != value]
    left_out = [name for name in new if not _fits(name, composed[name])]
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
