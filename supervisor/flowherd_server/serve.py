"""Runs the server in this process: listens, serves requests with uvicorn, and stops on a signal."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from loguru import logger

from flowherd.config.reload_report import SettingsSource
from flowherd.errors import ConfigurationError
from flowherd.http_connections import BACKLOG, BoundedServer, server_config
from flowherd.http_limits import Limits
from flowherd.line_writer import STANDARD_OUTPUT
from flowherd.shown_text import one_line
from flowherd.signals import Actions, Waker, catching_stop_signals
from flowherd_server.database_watch import watch_database
from flowherd_server.errors import DatabaseLost
from flowherd_server.lane.thread import Lane, open_lane
from flowherd_server.notify.notifier import NotifyOptions
from flowherd_server.notify.reloaded_notifier import ReloadedNotifier
from flowherd_server.port_holder import port_holder
from flowherd_server.reload import ServerReload, notify_options, rescue_options
from flowherd_server.runs.stale_heartbeats import RescueOptions
from flowherd_server.server_files import AddressFile, locked_directory
from flowherd_server.service import ServerCore
from flowherd_server.store.database import Database
from flowherd_server.store.database_marker import DatabaseRecord, open_database
from flowherd_server.web.app import MOST_READ_BYTES, create_app
from flowherd_server.web.door import Door
from flowherd_server.web.guard import check_binding

#: Time for requests that are being answered when the server stops, seconds.
_GRACE_S = 1
#: Longest time that a thread which comes back from SQLite waits for one that computes, seconds; a claim comes back some
#: ten times. With Python's 0.005 the claims of eight agents took a third longer (benchmarks/claims.py).
_SWITCH_INTERVAL_S = 0.0005


def _nothing(_url: str) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """The settings of one server."""

    host: str = "127.0.0.1"
    #: Port to listen on; 0 picks a free one.
    port: int = 4200
    data_dir: Path
    #: flowherd's home directory, for server.json.
    home: Path
    #: Token that clients must send; empty for none, which is only allowed on a loopback address.
    token: str = ""
    #: Whether pages are shown: full, read (without actions) or off.
    pages: str = "full"
    #: Time after which finished runs are deleted, seconds; 0 keeps all.
    keep_finished_s: float = 0.0
    #: Number of runs that a schedule creates ahead.
    schedule_ahead: int = 10
    #: Treatment of runs without a heartbeat.
    rescue: RescueOptions = field(default_factory=RescueOptions)
    #: How long no runs are handed out after an older copy of the database was restored, seconds.
    restore_grace_s: float = 15.0
    #: Which notifications are sent, and where to.
    notify: NotifyOptions = field(default_factory=NotifyOptions)
    #: Where SIGHUP has the settings read again; None if it stops the server.
    source: SettingsSource | None = None
    #: Stop when stdin is closed, which happens when the process that started this one ends.
    stop_with_parent: bool = False
    #: Called with the server's URL once it answers requests.
    on_ready: Callable[[str], None] = _nothing

    @classmethod
    def from_settings(cls, source: SettingsSource, *, stop_with_parent: bool = False) -> ServerOptions:
        """Take the options from the settings. The server prints its address once it is ready."""
        loaded = source.at_start
        server, paths = loaded.settings.server, loaded.paths
        return cls(
            host=server.bind,
            port=server.bind_port,
            data_dir=paths.data_dir,
            home=paths.home,
            token=server.token,
            pages=server.pages,
            keep_finished_s=server.keep_finished,
            schedule_ahead=server.schedule_ahead,
            rescue=rescue_options(server),
            restore_grace_s=server.restore_grace,
            notify=notify_options(loaded.settings.notify),
            source=source,
            stop_with_parent=stop_with_parent,
            on_ready=lambda url: STANDARD_OUTPUT.write_lines(
                one_line(f"flowherd server ready at {url} (data in {paths.data_dir})") + "\n"
            ),
        )


def run(options: ServerOptions) -> None:
    """Serve until a stop signal, or until the parent ends if `stop_with_parent` is set.

    Raises ConfigurationError if address, port or data directory cannot be used, DatabaseUnusable if the database cannot
    be opened now, and DatabaseLost once it was deleted or replaced; the process must then end by `os._exit`.
    """
    check_binding(options.host, options.token)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    with locked_directory(options.data_dir), contextlib.closing(_listen(options)) as listener:
        database = open_database(options.data_dir)
        record = DatabaseRecord(database, options.data_dir)
        try:
            asyncio.run(_serve(options, database, record, listener))
            record.keep()
        finally:
            if database.lost:
                database.give_up()
            else:
                database.close()
        if database.lost:
            raise DatabaseLost(database.lost)


async def _serve(options: ServerOptions, database: Database, record: DatabaseRecord, listener: socket.socket) -> None:
    core = ServerCore(database, options.schedule_ahead, options.keep_finished_s, options.rescue, record.restored_us)
    core.live.may_stop_agents = bool(options.token)
    url = _url(options.host, listener.getsockname()[1])
    if record.restored:
        text = "the database is an older copy, or was brought here: {}; no runs are handed out for {:.0f} s, so that {}"
        agents = "agents can report again what has ended since"
        logger.warning(text, record.restored, options.restore_grace_s, agents)
        core.hold_back(options.restore_grace_s)
    notifier = ReloadedNotifier(database, options.notify, core)
    core.listeners.append(notifier.announce)
    limits = Limits(request_bytes=MOST_READ_BYTES).for_this_process()
    lane = open_lane(core, options.data_dir)
    lane_path = None if lane is None else lane.path
    waits = limits.connections // 2
    door = Door(
        lambda token: create_app(core, options.host, token, max_waits=waits, lane=lane_path, pages=options.pages),
        options.token,
    )
    actions = None if options.source is None else ServerReload(options.source, core, notifier, door).actions()
    config = server_config(door, stop_timeout_s=_GRACE_S)
    address = AddressFile(options.home, url, options.data_dir, reloads=actions is not None)
    with contextlib.ExitStack() as while_ready:

        def ready() -> None:
            gc.freeze()  # what is loaded by now stays, and need not be looked through for garbage again and again
            address.write()
            notifier.start(url)
            while_ready.callback(notifier.stop)
            while_ready.callback(address.remove)
            while_ready.callback(asyncio.get_running_loop().create_task(address.watch()).cancel)
            options.on_ready(url)

        server = _Uvicorn(config, limits, ready)

        def stop() -> None:
            server.should_exit = True
            core.release()

        with (
            _logging_with_loguru(),
            _stopped_by_signals(stop, actions),
            _stopped_with_parent(stop, options.stop_with_parent),
        ):
            core.start()
            while_ready.enter_context(_serving(lane))
            watch = asyncio.get_running_loop().create_task(watch_database(database, record, stop))
            while_ready.callback(watch.cancel)
            try:
                await server.serve(sockets=[listener])
            finally:
                await core.stop()


@contextmanager
def _serving(lane: Lane | None) -> Iterator[None]:
    if lane is None:
        yield
        return
    lane.start()
    try:
        yield
    finally:
        lane.stop()


class _Uvicorn(BoundedServer):
    """uvicorn without its own signal handlers, and with a callback for when it answers requests."""

    def __init__(self, config: uvicorn.Config, limits: Limits, on_ready: Callable[[], None]) -> None:
        super().__init__(config, "the server", limits)
        self._on_ready = on_ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn would raise the signal again when it is done, and the process would end as if it had been killed.
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()


@contextmanager
def _stopped_by_signals(stop: Callable[[], None], actions: Actions | None) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    waker = Waker()
    with catching_stop_signals(waker, actions):

        def woken() -> None:
            waker.wait(0)
            stop()

        loop.add_reader(waker.fileno(), woken)
        try:
            yield
        finally:
            loop.remove_reader(waker.fileno())


@contextmanager
def _stopped_with_parent(stop: Callable[[], None], wanted: bool) -> Iterator[None]:
    """Call `stop` when stdin is closed, if wanted. Raises ConfigurationError if stdin cannot be waited for."""
    if not wanted:
        yield
        return
    loop = asyncio.get_running_loop()
    fd = sys.stdin.fileno()

    def readable() -> None:
        if not os.read(fd, 4096):
            loop.remove_reader(fd)
            stop()

    try:
        loop.add_reader(fd, readable)
    except OSError as error:  # a file or /dev/null, which epoll(7) does not support
        raise ConfigurationError("--stop-with-parent needs a pipe as standard input") from error
    try:
        yield
    finally:
        loop.remove_reader(fd)


def _listen(options: ServerOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    # asyncio only sets TCP_NODELAY if the protocol is named. Without it, each answer on a kept connection waits 40 ms
    # for the client's delayed acknowledgement (tcp(7)).
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((options.host, options.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        is_taken = error.errno == errno.EADDRINUSE
        holder = f": {port_holder(options.host, options.port)} listens there" if is_taken else ""
        flag = "--server-port" if options.stop_with_parent else "--port"
        raise ConfigurationError(
            f"the server cannot listen on {options.host} port {options.port}: {error.strerror}{holder}; choose another "
            f"port with {flag} (0 picks a free one)"
        ) from error
    return listener


def _url(host: str, port: int) -> str:
    """Return the URL by which this host reaches the server."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def _logging_with_loguru() -> Iterator[None]:
    """Send uvicorn's warnings and errors to our own log; its other messages are about every start and stop."""
    theirs, handler = logging.getLogger("uvicorn"), _LoguruHandler(logging.WARNING)
    theirs.addHandler(handler)
    try:
        yield
    finally:
        theirs.removeHandler(handler)


class _LoguruHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        logger.opt(exception=record.exc_info).log(record.levelname, "{}", record.getMessage())
