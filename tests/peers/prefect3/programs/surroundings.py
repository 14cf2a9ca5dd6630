"""Everything a run finds around itself, as texts by name; and a run that changes as much of it as it can."""

import asyncio
import atexit
import contextlib
import contextvars
import decimal
import faulthandler
import gc
import importlib
import json
import locale
import logging
import multiprocessing
import os
import random
import re
import resource
import secrets
import signal
import socket
import sqlite3
import ssl
import sys
import tempfile
import threading
import time
import uuid
import warnings
from datetime import datetime, timedelta, timezone
from pathlib import Path

import httpx
import prefect
import prefect._internal.uuid7
import prefect.events.related
import prefect.flow_engine
import prefect.runtime
import prefect.settings
import prefect.utilities.math
import prefect.utilities.names
from prefect import flow, get_run_logger, tags, task
from prefect.blocks.system import Secret
from prefect.cache_policies import INPUTS
from prefect.client.orchestration import get_client
from prefect.context import EngineContext, get_settings_context
from sqlalchemy import create_engine, text

#: What belongs to one moment or one run: ids, times, numbers of a process.
_PARTICULAR = (
    (r"0x[0-9a-f]+", "ADDRESS"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "ID"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*", "TIME"),
    (r"look-ID|\b\d{10,}\b", "N"),
    (r"(datetime\.datetime|DateTime)\([^)]*\)+", "TIME"),
)
#: Variables that change while tests go on.
_OF_TESTS = ("FLOWHERD_TEST", "FLOWHERD_HOME", "PYTEST_")
_PLAIN = (str, int, float, bool, type(None), bytes, timedelta)
#: What the engine starts beside a flow begins at some moment: some runs would see it and others not.
for _service in ("_send_heartbeats", "observe_flow_run_suspension"):
    setattr(prefect.flow_engine, _service, lambda *_, **__: contextlib.nullcontext())
_VARIABLE = contextvars.ContextVar("of_a_run", default="nothing")


def look():
    """Return everything, by name."""
    return {**_of_the_process(), **_of_the_interpreter(), **_of_logging(), **_of_prefect()}


def _of_the_process():
    limits = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    umask = os.umask(0)
    os.umask(umask)
    handlers = {signal.Signals(one).name: _text(signal.getsignal(one)) for one in signal.valid_signals() if one < 32}
    names = [f"{name}={value}" for name, value in sorted(os.environ.items()) if not name.startswith(_OF_TESTS)]
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    return {
        "umask": oct(umask),
        "environ": _plain("\n".join(names)),
        "limits": str({name: resource.getrlimit(getattr(resource, name)) for name in limits}),
        "signals": str(handlers),
        "signals blocked": str(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "wakeup": str(_wakeup()),
        "timer": str(signal.getitimer(signal.ITIMER_REAL)),
        "nice": str(os.nice(0)),
        "descriptors": str(sorted(_descriptors())),
        "children": children.read_text() if children.exists() else "",
        "zone": str(time.tzname),
        "cwd": _plain(str(Path.cwd())),
    }


def _wakeup():
    fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd)
    return fd


def _descriptors():
    return [re.sub(r"\d+", "N", place) for place in _open_places()]


def _open_places():
    """List what the open descriptors are; the one that lists them is closed before it is read."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError):
            yield str(entry.readlink())


def _of_the_interpreter():
    found = {f"sys.{name}": _text(getattr(sys, name, None)) for name in ("argv", "flags", "excepthook", "displayhook")}
    found |= {f"sys.{name}": str(getattr(sys, name)()) for name in ("getrecursionlimit", "getswitchinterval")}
    context = {_plain(repr(key)): _in_context(value) for key, value in contextvars.copy_context().items()}
    return {
        **found,
        "sys.gettrace": str((sys.gettrace(), sys.getprofile())),
        "sys.path": _plain(str(sys.path)),
        "sys.modules": str(sorted(sys.modules)),
        "sys.streams": str([(one.encoding, one.errors, one.line_buffering) for one in (sys.stdout, sys.stderr)]),
        "sys.meta_path": _text(list(sys.meta_path)),
        "main": f"{sys.modules['__main__'].__name__} {getattr(sys.modules['__main__'], '__file__', None)}",
        "builtins": str(sorted(vars(sys.modules["builtins"]))),
        "warnings": _plain(str(warnings.filters)),
        "threads": str(sorted(re.sub(r"\d+", "N", thread.name) for thread in threading.enumerate())),
        "threads' hook": _text(threading.excepthook),
        "loop policy": type(asyncio.get_event_loop_policy()).__name__,
        "own loop": str(getattr(asyncio.get_event_loop_policy()._local, "_loop", None) is not None),
        "locale": str((locale.setlocale(locale.LC_ALL), locale.getlocale())),
        "collector": str((gc.isenabled(), gc.get_threshold(), len(gc.callbacks))),
        "decimal": str(decimal.getcontext()),
        "temporary directory": str(tempfile.tempdir),
        "socket timeout": str(socket.getdefaulttimeout()),
        "start method": str(multiprocessing.get_start_method(allow_none=True)),
        "faulthandler": str(faulthandler.is_enabled()),
        "at exit": str(_exit_handlers()),
        "context": str(sorted(context.items())),
        "random": str(random.getstate()[0]),
        "connections": str(_living(sqlite3.Connection, "Engine", "Client", "AsyncClient", "PrefectClient")),
        "of a run": str((_VARIABLE.get(), hasattr(sys, "of_a_run"), hasattr(prefect, "of_a_run"))),
    }


def _exit_handlers():
    """List the functions of atexit, without certifi's.

    Certifi registers it when Prefect asks for its certificates, which it does unless SSL_CERT_FILE is set. For runs in
    the fork the fork server has asked, and its handlers are not the run's. This one only removes a copy of the file,
    which certifi makes if it is imported from an archive.
    """
    names = [f"{one.__module__}.{one.__qualname__}" for one in _Spy.shown_by(atexit.unregister)]
    return sorted(name for name in names if name != "certifi.core.exit_cacert_ctx")


class _Spy:
    """Collects what it is compared with: atexit shows its functions to nothing else."""

    def __init__(self):
        self.seen = []

    def __eq__(self, other):
        self.seen.append(other)
        return False

    __hash__ = None

    @classmethod
    def shown_by(cls, compare):
        spy = cls()
        compare(spy)
        return spy.seen


def _in_context(value):
    """Describe a value; some hold the run's own names and times."""
    return type(value).__name__ if isinstance(value, EngineContext) else _text(value)


def _living(*kinds):
    """Count the objects of these classes, or of classes with these names."""
    names = [kind if isinstance(kind, str) else kind.__name__ for kind in kinds]
    every = [type(one).__name__ for one in gc.get_objects()]
    return {name: every.count(name) for name in names}


def _of_logging():
    loggers = {"": logging.getLogger(), **logging.Logger.manager.loggerDict}
    found = {
        "logging": str((logging.root.manager.disable, logging.raiseExceptions, _text(logging.getLogRecordFactory())))
    }
    for name, logger in loggers.items():
        if isinstance(logger, logging.Logger):
            facts = (logger.level, logger.propagate, logger.disabled, len(logger.filters))
            found[f"logger {name}"] = f"{facts} {[type(one).__name__ for one in logger.handlers]}"
    return found


def _of_prefect():
    """Collect globals and class attributes of Prefect's modules, its settings, and the sizes of its caches."""
    found = {"settings": _settings()}
    for name, module in sorted(sys.modules.items()):
        if name.split(".")[0] != "prefect":
            continue
        for key, value in list(vars(module).items()):
            if not key.startswith("__"):
                found[f"{name}.{key}"] = _text(value)
                found |= _attributes(name, value)
    return found


def _settings():
    settings = get_settings_context()
    return _plain(
        f"{settings.profile.name} {settings.settings.model_dump(mode='json', context={'include_secrets': True})}"
    )


def _attributes(module, value):
    if not isinstance(value, type) or value.__module__ != module:
        return {}
    own = {key: one for key, one in list(vars(value).items()) if not key.startswith(("__", "_abc_"))}
    return {f"{module}.{value.__name__}.{key}": _text(getattr(one, "__func__", one)) for key, one in own.items()}


def _text(value, depth=0):
    if isinstance(value, _PLAIN):
        return _plain(repr(value))
    if depth > 4:
        return "..."
    if callable(getattr(value, "cache_info", None)):
        return f"{value.__module__}.{value.__qualname__} caches {value.cache_info().currsize}"
    if isinstance(value, dict) or type(value).__name__ in ("WeakKeyDictionary", "WeakValueDictionary"):
        items = [(_plain(str(key)), _text(one, depth + 1)) for key, one in list(value.items())]
        return f"{type(value).__name__} {sorted(one for one in items if not one[0].startswith('__'))}"
    if isinstance(value, (list, tuple, set, frozenset)):
        return f"{type(value).__name__} {sorted(_text(one, depth + 1) for one in value)}"
    if callable(value) and hasattr(value, "__defaults__"):
        return f"{value.__module__}.{value.__qualname__} {_text(value.__defaults__, depth + 1)}"
    return _plain(repr(value))


def _plain(text_):
    for pattern, word in _PARTICULAR:
        text_ = re.sub(pattern, word, text_)
    return text_


def _write_down():
    """Write everything down once the thread has ended that reports the pull steps, shortly after the start."""
    for thread in threading.enumerate():
        if thread.name.endswith("(_tell)"):
            thread.join(30)
    gc.collect()
    Path.home().joinpath(f"look-{prefect.runtime.flow_run.id}").write_text(json.dumps(look()))


@flow
def looking_around() -> None:
    _write_down()


@flow
def drawing(meeting: str) -> None:
    """Draw what must be unique to a run, which began as a copy of another process; stay until `meeting` exists."""
    drawn = {
        "random": random.random(),
        "a thread's random": asyncio.run(_in_a_thread()),
        "uuid1": str(uuid.uuid1()),
        "uuid4": str(uuid.uuid4()),
        "uuid7": str(prefect._internal.uuid7.uuid7()),
        "urandom": os.urandom(8).hex(),
        "system": random.SystemRandom().random(),
        "secret": secrets.token_hex(),
        "tls": ssl.RAND_bytes(8).hex(),
        "temporary name": tempfile.mktemp(),
        "slug": prefect.utilities.names.generate_slug(3),
        "jitter": prefect.utilities.math.clamped_poisson_interval(1000.0),
    }
    shared = [place for place in _open_places() if place.startswith(("socket:", "pipe:"))]
    _say_and_stay("DRAWN " + json.dumps({"drawn": drawn, "shared": shared}), meeting)


async def _in_a_thread():
    return await asyncio.to_thread(random.random)


def _say_and_stay(line, meeting):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
    deadline = time.monotonic() + 60
    while not Path(meeting).exists() and time.monotonic() < deadline:
        time.sleep(0.02)


_kept = []


@task(cache_policy=INPUTS)
def remembered(number: int) -> int:
    return number


@flow
def dirtying(meeting: str) -> None:
    """Change everything, write it down, and stay until `meeting` exists."""
    remembered(1)
    get_run_logger().info("about to be untidy")
    _enter_contexts()
    _spoil_the_process()
    _spoil_the_interpreter()
    _open_things()
    _write_down()
    _say_and_stay("dirty", meeting)
    os._exit(0)


def _enter_contexts():
    spoiled = {prefect.settings.PREFECT_API_KEY: "a-key", prefect.settings.PREFECT_FLOWS_DEFAULT_RETRIES: 7}
    for context in (prefect.settings.temporary_settings(spoiled), tags("untidy")):
        context.__enter__()
        _kept.append(context)
    _VARIABLE.set("something")
    prefect.of_a_run = sys.of_a_run = True
    # Prefect's own thread fills it too, sooner or later.
    prefect.events.related.RESOURCE_CACHE["of a run"] = ({"object": None}, datetime.now(timezone.utc))
    prefect.settings.save_profiles(
        prefect.settings.ProfilesCollection(
            [prefect.settings.Profile(name="untidy", settings=spoiled)], active="untidy"
        )
    )
    _kept.append(Secret(value="a secret"))


def _spoil_the_process():
    os.environ.update(OF_A_RUN="1", PREFECT_API_KEY="b-key", TZ="Asia/Tokyo", PREFECT_LOGGING_LEVEL="DEBUG")
    time.tzset()
    os.umask(0o007)
    os.nice(1)
    for number in (signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    signal.setitimer(signal.ITIMER_REAL, 3600)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chdir("/")


def _spoil_the_interpreter():
    sys.path.insert(0, "/of/a/run")
    sys.argv.append("of a run")
    sys.setrecursionlimit(2345)
    sys.setswitchinterval(0.5)
    sys.excepthook = threading.excepthook = lambda *_: None
    sys.modules["of_a_run"] = sys
    sys.meta_path.append(type("Finder", (), {"find_spec": staticmethod(lambda *_: None)}))
    vars(sys.modules["builtins"])["of_a_run"] = True
    warnings.simplefilter("error", UserWarning)
    random.seed(1)
    decimal.getcontext().prec = 5
    tempfile.tempdir = "/tmp/"
    socket.setdefaulttimeout(77)
    faulthandler.enable()
    gc.set_threshold(9999)
    locale.setlocale(locale.LC_ALL, "C")
    multiprocessing.set_start_method("spawn")
    atexit.register(print, "of a run")
    logging.disable(logging.DEBUG)
    logging.getLogger().addHandler(logging.NullHandler())
    logging.getLogger("prefect").setLevel(logging.ERROR)
    logging.getLogger("of.a.run").setLevel(logging.CRITICAL)
    importlib.import_module("prefect.blocks.notifications")


def _open_things():
    _kept.append(get_client(sync_client=True))
    _kept.append(httpx.Client())
    engine = create_engine("sqlite://")
    connection = engine.connect()
    connection.execute(text("create table if not exists left_here (number int)"))
    os.pipe()
    _kept.extend([engine, connection, sqlite3.connect(":memory:"), socket.socket(), os.open(os.devnull, os.O_RDONLY)])
    threading.Thread(target=threading.Event().wait, name="of a run", daemon=True).start()
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="loop of a run", daemon=True).start()
    asyncio.set_event_loop(asyncio.new_event_loop())
