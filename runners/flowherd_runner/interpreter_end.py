"""Ends the interpreter of a run as CPython ends one, without the state that the run shares with its fork server.

The process ends by the interpreter's own finalization (Py_FinalizeEx), not by an imitation of it, so threads, exit
handlers, `__del__`, cycles, generators and open files meet exactly what they would meet in a script. What was there
before the run belongs to the fork server, and none of it is finalised in a run:

- Exit handlers, weakref finalizers and those of multiprocessing are dropped when the run begins. The handlers that a
  module of the standard library registers when it is imported are registered again, because the run may use it.
- Modules are taken out of sys.modules just before the interpreter empties that, and their objects are kept alive, also
  from the garbage collector (gc.freeze). So only the run's own modules are finalised. What the run has put into others
  comes last, in no particular order.
- The process ends when that is done, before the interpreter would free its own memory. That is the expensive part (20
  of 22 ms with pandas preloaded), and nothing of it can be seen from outside.
- Exit handlers of C libraries run if the run has loaded the library.
"""

import atexit
import builtins
import ctypes
import faulthandler
import gc
import io
import os
import signal
import sys
import threading
import weakref
from types import AsyncGeneratorType, CoroutineType, GeneratorType, ModuleType
from typing import Any, Callable, Dict, List, NoReturn, Optional, Set, Tuple

#: Calls keep the interpreter's lock: after them nothing else may run.
_libc = ctypes.PyDLL(None)
# Looked up once, in the fork server.
_purge = _libc["__fpurge"]
_at_exit = _libc["__cxa_atexit"]
_flush = ctypes.cast(_libc["fflush"], ctypes.c_void_p)
_exit_now = ctypes.cast(_libc["_exit"], ctypes.c_void_p)
_stdout = ctypes.c_void_p.in_dll(_libc, "stdout")
try:
    _on_exit: Any = _libc["on_exit"]
except AttributeError:  # not in musl, where the handlers of preloaded libraries run, too
    _on_exit = None

_SUSPENDED = (GeneratorType, CoroutineType, AsyncGeneratorType)
#: Exit code of an interpreter that could not flush its standard streams.
_NOT_FLUSHED = 120
#: Exit code of an interpreter that was interrupted, if the signal does not end it.
_INTERRUPTED = 130

#: Exit handlers that modules register when they are imported, in the order in which modules usually are.
_LIBRARY_HANDLERS = (
    ("logging", "shutdown"),
    ("multiprocessing.util", "_exit_function"),
)
#: Modules of the standard library whose handler runs before threads are waited for (3.9), or at exit (3.8).
_THREAD_HANDLERS = ("concurrent.futures.thread", "concurrent.futures.process")


class _Ending:
    """What is known of the end of this process."""

    def __init__(self) -> None:
        #: Everything from before the run that must stay alive until the end.
        self.kept: List[object] = []
        #: The modules that were loaded before the run.
        self.modules: Dict[str, ModuleType] = {}
        #: What daemon threads hold.
        self.in_threads: List[object] = []
        self.exit_code = 0
        #: The signal that ends the process after finalization, as an interrupt does.
        self.number: Optional[int] = None


_ending = _Ending()


def remember_preloads() -> None:
    """In a fork server, before the first run: do what each run would have to do, and copy memory for.

    Touching an object copies its page in a fork, and there may be thousands of modules.
    """
    _ending.modules = dict(sys.modules)
    _forget_types()


def set_preloads_apart() -> None:
    """Make what is there at this moment the fork server's, so that it is not finalised when this process ends."""
    if len(_ending.modules) != len(sys.modules):
        _ending.modules = dict(sys.modules)
    _ending.kept += [sys.stdin, sys.stdout, sys.stderr, *_exit_handlers()]
    _forget_exit_handlers()
    _forget_finalizers()
    _skip_c_handlers()
    gc.freeze()


def finalise(code: int, interrupted: bool = False) -> NoReturn:
    """End the process as the interpreter does, with that exit code; `interrupted` ends it by SIGINT."""
    _ending.exit_code = _INTERRUPTED if interrupted else code
    _ending.number = signal.SIGINT if interrupted else None
    # Called below other frames, as PyErr_Print does for SystemExit in a callback.
    ctypes.pythonapi.Py_Exit(_ending.exit_code)
    raise AssertionError("Py_Exit has returned")


def show_stack_when_ended(fd: int) -> None:
    """Write the stacks to `fd` when SIGTERM ends the process, unless the run has a handler for it."""
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        faulthandler.register(signal.SIGTERM, file=fd, all_threads=True, chain=True)


# At the beginning.


class _Spy:
    """Collects what it is compared with."""

    def __init__(self) -> None:
        self.seen: List[object] = []

    def __eq__(self, other: object) -> bool:
        self.seen.append(other)
        return False

    __hash__ = None  # type: ignore[assignment]


def _exit_handlers() -> List[object]:
    """Return the functions of atexit, which shows them only to what it compares them with."""
    spy = _Spy()
    atexit.unregister(spy)  # type: ignore[arg-type]
    return spy.seen


def _forget_exit_handlers() -> None:
    getattr(atexit, "_clear")()  # noqa: B009
    # The first that is registered is the last to be called.
    atexit.register(_leave_modules)
    before_threads: Optional[List[object]] = getattr(threading, "_threading_atexits", None)
    if before_threads is not None:
        _ending.kept += before_threads
        before_threads.clear()
    register: Callable[..., Any] = getattr(threading, "_register_atexit", atexit.register)
    for name in _THREAD_HANDLERS:
        if name in sys.modules:
            register(getattr(sys.modules[name], "_python_exit"))  # noqa: B009
    for name, function in _LIBRARY_HANDLERS:
        if name in sys.modules:
            atexit.register(getattr(sys.modules[name], function))


def _forget_finalizers() -> None:
    finalize: Any = weakref.finalize
    _ending.kept.append(dict(finalize._registry))
    finalize._registry.clear()
    finalize._registered_with_atexit = False  # the first finalizer of the run registers their exit handler again
    if "multiprocessing.util" in sys.modules:
        util: Any = sys.modules["multiprocessing.util"]
        _ending.kept.append(dict(util._finalizer_registry))
        util._finalizer_registry.clear()


def _skip_c_handlers() -> None:
    """Have exit(3) call the handlers that are registered from now on, flush C's streams, and end the process."""
    _purge(_stdout)  # a preloaded module's, printed before the run
    if _on_exit is not None:
        _on_exit(_exit_now, None)
        _at_exit(_flush, None, None)


# At the end.


def _leave_modules() -> None:
    """Leave to the interpreter only the run's own modules to be cleared. The last of the exit handlers."""
    if not _can_flush():
        _ending.exit_code = _NOT_FLUSHED
    # Now, because the interpreter frees the stacks of these threads.
    _ending.in_threads = _values_of_threads()
    for name, module in _ending.modules.items():
        if name not in ("sys", "builtins") and sys.modules.get(name) is module:
            del sys.modules[name]
    _forget_types()
    # Once it has emptied sys.modules, the interpreter drops names that do not belong to builtins.
    setattr(builtins, "_flowherd_end", _End())  # noqa: B010


def _forget_types() -> None:
    """Empty the caches of typing, which keep classes of the run alive, and with them all that their modules hold."""
    for forget in getattr(sys.modules.get("typing"), "_cleanups", ()):
        forget()


class _End:
    """Ends the process when it is dropped, which is when the interpreter is about to collect its last garbage."""

    def __del__(self) -> None:
        gc.collect()  # the modules of the run, and all that they hold
        _finalise_what_preloads_hold()
        _can_flush()
        if _ending.number is not None:
            _libc.signal(_ending.number, None)
            _libc.kill(os.getpid(), _ending.number)
        _libc.exit(_ending.exit_code)


def _finalise_what_preloads_hold() -> None:
    """Finalise what is still alive because the run has put it into preloaded modules: it may be a file with data."""
    # Without those that were frozen before the run. Not isinstance: it may call code of the object's class.
    born = gc.get_objects()
    in_threads = _held_by_threads({id(thing) for thing in born})
    if _ending.in_threads:
        # That of a `with` statement in a daemon thread is held by the thread's stack alone, where nobody can look.
        born = [thing for thing in born if type(thing) not in _SUSPENDED]
    left = [thing for thing in born if hasattr(type(thing), "__del__") and id(thing) not in in_threads]
    for thing in sorted(left, key=_turn):
        if type(thing) is _End or _is_finalised(thing):
            continue
        finalizer = type(thing).__del__
        try:
            finalizer(thing)
        except BaseException as error:  # the user's code; no exception may leave a finalizer
            _report_ignored(error, finalizer)


def _turn(thing: object) -> int:
    """What writes to a file comes before the file, and its layers from the outermost to the descriptor."""
    kind = type(thing)
    if not issubclass(kind, io.IOBase):
        return 0
    if issubclass(kind, io.TextIOBase):
        return 1
    if issubclass(kind, io.RawIOBase):
        return 4
    return 3 if kind.__module__ == "_io" else 2


def _is_finalised(thing: object) -> bool:
    is_finalised: Optional[Callable[[object], bool]] = getattr(gc, "is_finalized", None)  # since 3.9
    return is_finalised is not None and is_finalised(thing)


def _values_of_threads() -> List[object]:
    """Return what the frames of other threads hold: daemon threads, whose frames are never finalised."""
    own = threading.get_ident()
    frames = [frame for ident, frame in sys._current_frames().items() if ident != own]
    found: List[object] = []
    for frame in frames:  # grows
        found += [frame.f_globals, *frame.f_locals.values()]
        frames += [frame.f_back] if frame.f_back is not None else []
    return found


def _held_by_threads(born: Set[int]) -> Set[int]:
    """Return which objects of `born`, by their ids, can be reached from daemon threads."""
    waiting: List[object] = [_ending.in_threads]
    held: Set[int] = set()
    while waiting:
        for thing in gc.get_referents(waiting.pop()):
            if id(thing) in born and id(thing) not in held:
                held.add(id(thing))
                waiting.append(thing)
    return held


def _report_ignored(error: BaseException, finalizer: object) -> None:
    try:
        sys.stderr.write("Exception ignored in: {!r}\n{}: {}\n".format(finalizer, type(error).__name__, error))
    except Exception:
        pass  # a stream of the user that is broken


def _can_flush() -> bool:
    """Flush the standard streams, and return whether the interpreter would call that a success."""
    done = True
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except BaseException:  # the interpreter flushes them again, and reports the error
            done = False
    return done


def where(stacks: str) -> Optional[str]:
    """Return where a process was by what `show_stack_when_ended` wrote: a function, its file and its line."""
    sections: List[Tuple[bool, List[str]]] = []
    for line in stacks.splitlines():
        if "hread 0x" in line:
            sections.append((line.startswith("Current"), []))
        elif sections and line.startswith('  File "'):
            sections[-1][1].append(line)
    # The current thread may only be waiting for another one.
    for _, frames in sorted(sections, key=lambda section: not section[0]):
        for frame in frames:
            path, _, rest = frame[len('  File "') :].rpartition('", line ')
            number, _, function = rest.partition(" in ")
            if path.endswith("threading.py"):
                break
            if path == os.path.abspath(__file__):
                return "in an exit handler or a finalizer that is not written in Python"
            return "in {} ({}, line {})".format(function, path, number)
    return None
