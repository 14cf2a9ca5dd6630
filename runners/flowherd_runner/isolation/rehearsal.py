"""What a spare for runs with a level of isolation goes through beside the rest of its rehearsal (rehearsal.py).

All that keeps a run apart begins when the run is known. Of that, this does what changes nothing, so that the pages that
it writes to have been copied by then.
"""

import os
import sys

from flowherd_runner.isolation import capabilities, landlock, seccomp
from flowherd_runner.isolation.mounts import Mounts, Wanted
from flowherd_runner.isolation.ways_out import STAYING, ways_out


def rehearse_isolation() -> None:
    """Look at what there is to cover, and plan it, for no run."""
    wanted = Wanted(
        working_dir="/",
        is_own=False,
        covered=(os.path.dirname(__file__),),
        hidden=ways_out("/"),
        keep=(),
        trusted=(sys.prefix, *STAYING),
        write=(),
        own=(),
        is_sealed=True,
        is_root=False,
        owner=None,
        runtime_name="",
    )
    Mounts("/", wanted, _ignore, _ignore).survey()
    capabilities.has(capabilities.SYS_ADMIN)
    landlock.writing_rules(landlock.version(), ())
    if seccomp.is_offered():
        seccomp.encoded([seccomp.Refused("keyctl"), seccomp.RefusedFlags("clone", 0), seccomp.OnlyFamilies((1,))])


def _ignore(_what: str, _why: str) -> None:
    pass
