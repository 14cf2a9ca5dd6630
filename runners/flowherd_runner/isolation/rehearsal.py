"""What a spare for runs with a level of isolation goes through beside the rest of its rehearsal (rehearsal.py).

All that keeps a run apart begins when the run is known. Of that, this does what changes nothing, or cannot succeed, so
that the pages that it writes to have been copied by then.
"""

import contextlib
import os
import sys

from flowherd_runner import osapi
from flowherd_runner.isolation import capabilities, landlock, private_places, proof, seccomp, system_calls
from flowherd_runner.isolation.init_program import program
from flowherd_runner.isolation.interpreter_places import code_places
from flowherd_runner.isolation.mounts import Mounts
from flowherd_runner.isolation.wanted import Wanted
from flowherd_runner.isolation.ways_out import STAYING, ways_out

#: A path at which nothing can ever be.
_NOWHERE = "/dev/null/nothing"


def warm_up() -> None:
    """In a fork server, before it makes the first such spare: have what first uses leave behind, for all of them.

    Such as the functions of the C library that ctypes has looked up. Each flow process would make its own: 70 KiB.
    """
    with contextlib.suppress(Exception):  # a real start meets the same error, and can report it
        rehearse_isolation()
    program()
    osapi.return_free_memory()


def rehearse_isolation() -> None:
    """Look at what there is to cover, and plan it, for no run; mount and prove what cannot be."""
    wanted = Wanted(
        working_dir="/",
        is_own=False,
        covered=(os.path.dirname(__file__),),
        hidden=ways_out("/"),
        keep=(),
        trusted=(sys.prefix, *STAYING),
        write=(),
        code=code_places(),
        own=(),
        is_sealed=True,
        is_root=False,
        owner=None,
        runtime_name="",
    )
    Mounts("/", wanted, _ignore, _ignore).survey()
    for call in (_mount_nothing, _change_no_mount, _make_no_places):
        with contextlib.suppress(OSError):
            call()
    capabilities.has(capabilities.SYS_ADMIN)
    abi = landlock.version()
    if abi:
        handled, rules = landlock.writing_rules(abi, wanted.covered)
        landlock.prepared(abi, handled, rules, scoped=True).close()
    with contextlib.suppress(proof.Broken):
        proof.prove([*proof.of_covers(_NOWHERE, {_NOWHERE: (0, 0)}), *proof.of_writing([_NOWHERE])])
    if seccomp.is_offered():
        seccomp.encoded([seccomp.Refused("keyctl"), seccomp.RefusedFlags("clone", 0), seccomp.OnlyFamilies((1,))])


def _mount_nothing() -> None:
    system_calls.mount("none", _NOWHERE, None, system_calls.MS_BIND)


def _change_no_mount() -> None:
    system_calls.set_mount_attributes(_NOWHERE, on=system_calls.ATTR_RDONLY)


def _make_no_places() -> None:
    private_places.make(_NOWHERE)


def _ignore(_what: str, _why: str) -> None:
    pass
