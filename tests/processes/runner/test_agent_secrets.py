"""The agent's credentials: masked in what a run prints, and yet nowhere in the run's own process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.runner import THREAD_AT_START, ForkServer

TOKEN = "agents-own-token"
PLANTED = "planted-in-the-run"


def hidden(text: str) -> str:
    """The text in a form in which a search for it does not find the search itself."""
    return bytes(byte ^ 0x55 for byte in text.encode()).hex()


#: Says how often each of two texts is in the memory that the run's process can read, and what it has open.
SEARCH = f"""
import os, re
TABLE = bytes(byte ^ 0x55 for byte in range(256))
SOUGHT = [bytes.fromhex(one) for one in ("{hidden(TOKEN)}", "{hidden(PLANTED)}")]
def main():
    found = [0, 0]
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for start, end in re.findall(r"^([0-9a-f]+)-([0-9a-f]+) r", maps.read(), re.M):
            try:
                memory.seek(int(start, 16))
                read = memory.read(int(end, 16) - int(start, 16)).translate(TABLE)
            except (OSError, OverflowError, ValueError):  # [vvar], [vsyscall]
                continue
            for place, text in enumerate(SOUGHT):
                found[place] += read.count(text)
    print(found[0], found[1] > 0)
    links = ["/proc/self/fd/" + name for name in os.listdir("/proc/self/fd") if int(name) > 2]
    targets = [os.readlink(link) for link in links if os.path.lexists(link)]
    print([target for target in targets if target.startswith("/")])
    print(SOUGHT[0].translate(TABLE).decode())
"""


@pytest.mark.parametrize("way", ["fork", "spare", "exec"])
def test_no_run_has_them_in_memory_or_open(
    start_fork_server: Callable[..., ForkServer], tmp_path: Path, way: str
) -> None:
    env = {"PLANTED": PLANTED}
    if way == "exec":
        (tmp_path / "sitecustomize.py").write_text(THREAD_AT_START)
        env["PYTHONPATH"] = str(tmp_path)
    server = start_fork_server(env=env, secrets=[TOKEN], spares_wanted=int(way == "spare"), idle_s=0.0)
    run = server.python(SEARCH)
    run.wait()
    assert run.lines("stdout") == ["0 True", "[]", "***"]
