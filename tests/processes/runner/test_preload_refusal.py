"""Preloaded state is never shared in silence: a module that leaves something at its import is not preloaded."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.support.runner import ForkServer
from tests.support.waiting import wait_until

StartForkServer = Callable[..., ForkServer]

#: The code of modules, and what their import is said to leave; PORT is that of a server, DIR the modules' directory.
LEAVING = {
    "a_client": ("import socket\nC = socket.create_connection(('127.0.0.1', PORT))", "socket to 127.0.0.1:PORT"),
    "a_listener": ("import socket\nS = socket.create_server(('127.0.0.1', 0))", "socket on 127.0.0.1:*"),
    "a_pipe": ("import os\nR, W = os.pipe()", "pipe"),
    "a_loop": ("import asyncio\nL = asyncio.new_event_loop()", "epoll, socket to another socket of a pair"),
    "a_flock": ("import fcntl\nF = open(__file__)\nfcntl.flock(F, fcntl.LOCK_SH)", "flock on DIR/a_flock.py"),
    "a_log": ("F = open('DIR/log', 'a')", "file DIR/log that is open for writing"),
    "a_thread": (
        "import threading\ndef wait(): threading.Event().wait()\n"
        "threading.Thread(target=wait, name='poller', daemon=True).start()",
        "thread poller",
    ),
    "a_child": ("import subprocess\nP = subprocess.Popen(['sleep', '1000'])", "process * (*)"),
    "a_lock": ("import multiprocessing\nL = multiprocessing.Lock()", "semaphore"),
    "a_mapping": ("import mmap\nM = mmap.mmap(-1, 4096)", "shared memory"),
    # Named after the module of the list, with the one that holds it.
    "a_package": ("from a_package_below import one", "socket on @a_package_below in a_package_below"),
    # Its import fails, and what it has left is ended all the same.
    "a_failure": ("import os\nos.pipe()\nraise ValueError('no')", "pipe"),
}
HARMLESS = {
    "a_reader": "F = open(__file__)",
    "a_null": "F = open('/dev/null', 'r+b', buffering=0)",
    "a_short_thread": "import threading\nT = threading.Thread(target=str)\nT.start()",
    "a_closed": "import socket\nA, B = socket.socketpair()\nA.close(); B.close()",
}


@pytest.fixture
def modules(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Write the modules; return what the import of each of LEAVING should be said to leave."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])

        def filled(text: str) -> str:
            return text.replace("PORT", port).replace("DIR", str(tmp_path))

        for name, code in {**HARMLESS, **{name: code for name, (code, _) in LEAVING.items()}}.items():
            (tmp_path / f"{name}.py").write_text(filled(code))
        (tmp_path / "a_package_below.py").write_text(
            "import socket\none = socket.socket(socket.AF_UNIX)\none.bind('\\0' + __name__)"
        )
        yield {name: filled(said) for name, (_, said) in LEAVING.items()}


def test_modules_that_leave_something_are_named_with_it_and_imported_by_the_runs(
    start_fork_server: StartForkServer, tmp_path: Path, modules: dict[str, str]
) -> None:
    server = start_fork_server(preload=["csv", *LEAVING, *HARMLESS], env={"PYTHONPATH": str(tmp_path)})
    refused = server.ready["refused"]
    assert list(refused) == list(modules)
    assert {name: refused[name] for name, said in modules.items() if not fnmatchcase(refused[name], said)} == {}
    assert server.ready["preloaded"] == ["csv", *HARMLESS]
    assert server.ready["failed"] == {"a_failure": "ValueError: no"}
    # Nothing of them is left, and runs are still forked: they have the harmless modules.
    assert server.ready["pid"] == server.process.pid and server.ready["threads"] == 1
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    assert children.read_text() == ""
    links = [str(path.readlink()) for path in Path(f"/proc/{server.process.pid}/fd").iterdir()]
    assert sum(link.startswith("socket:") for link in links) == 1  # that to the agent
    code = "import sys\ndef main():\n    print(*sorted(name for name in sys.modules if name.startswith('a_')))"
    run = server.python(code)
    run.wait()
    assert run.lines() == [" ".join(sorted(HARMLESS))]
    own = [server.python("import a_thread, threading\ndef main(): print(threading.active_count())") for _ in range(2)]
    for run in own:
        wait_until(lambda run=run: run.lines() == ["2"], what=run.describe)
        run.wait()


def test_a_fork_server_of_a_module_that_is_refused_has_the_agents_surroundings_again(
    start_fork_server: StartForkServer, tmp_path: Path
) -> None:
    """What the import has changed in the process is undone with it."""
    (tmp_path / "untidy.py").write_text(
        "import os, signal\nR, W = os.pipe()\nos.umask(0)\nos.chdir('/usr')\nos.environ['UNTIDY'] = '1'\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\nsignal.setitimer(signal.ITIMER_REAL, 1000)"
    )
    server = start_fork_server(preload=["untidy"], env={"PYTHONPATH": str(tmp_path)}, secrets=["agents-own-token"])
    assert server.ready["refused"] == {"untidy": "pipe"}
    code = (
        "import os, signal\ndef main():\n    print(os.environ.get('UNTIDY'), signal.getsignal(signal.SIGHUP).name)\n"
        "    print('agents-own-token', [name for name in os.environ if 'SECRET' in name])"
    )
    run = server.python(code)
    run.wait()
    assert run.lines("stdout") == ["None SIG_DFL", "*** []"]
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    assert f"Umask:\t{_own_umask()}" in status
    assert Path(f"/proc/{server.process.pid}/cwd").readlink() == Path.cwd()


def _own_umask() -> str:
    return next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "Umask" in line)


def test_random_generators_of_preloaded_modules_differ_between_runs(
    start_fork_server: StartForkServer, tmp_path: Path
) -> None:
    """Also those that are seeded when they are imported; a seed that the run itself sets holds."""
    package = tmp_path / "numpy"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "random.py").write_text(
        "import os\nfrom random import Random\n_global = Random(1)\nseed = _global.seed\nrand = _global.random\n"
        "class BitGenerator:\n"
        "    def __init__(self): self.state = os.urandom(4).hex()\n"
        "class Generator:\n"
        "    def __init__(self, bits): self.bit_generator = bits\n"
        "class RandomState:\n"
        "    def __init__(self): self.value = 'fixed'\n"
        "    def seed(self): self.value = os.urandom(4).hex()\n"
    )
    (tmp_path / "holder.py").write_text(
        "import random\nimport numpy.random as np\n"
        "class Own(random.Random):\n    def seed(self, number): super().seed(number)\n"
        "random.seed(1)\n"
        "class Holder: pass\n"
        "ONE = Holder()\nONE.first, ONE.second = random.Random(1), [Own(1)]\n"
        "BITS = np.Generator(np.BitGenerator())\nOLD = np.RandomState()\n"
    )
    server = start_fork_server(preload=["holder"], env={"PYTHONPATH": str(tmp_path)})
    code = """
import random, numpy.random
from holder import BITS, OLD, ONE
def main():
    print(random.random(), ONE.first.random(), ONE.second[0].random(), numpy.random.rand(),
          BITS.bit_generator.state, OLD.value)
    ONE.first.seed(7)
    print(ONE.first.random())
"""
    runs = [server.python(code) for _ in range(3)]
    for run in runs:
        run.wait()
    lines = [run.lines() for run in runs]
    assert len({word for line, _ in lines for word in line.split()}) == 3 * 6, lines
    assert len({seeded for _, seeded in lines}) == 1
