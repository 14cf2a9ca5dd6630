"""What a spare runner and its flow process do while nothing comes: they go through a start with dummies, once.

A forked process copies each page of its parent's memory when it first writes to it, and Python writes to every object
that it uses. A rehearsal has copied most of these pages before there is a run. It leaves nothing behind but that: no
file, no descriptor, no changed variable, no entry in a cache. It costs some milliseconds of processor time and some
MiB of memory, so it is for a spare that has waited for a while, and not for those of a burst.
"""

import importlib.machinery
import importlib.util
import io
import json
import os
import select
import selectors
import socket
from typing import Callable

from flowherd_runner.contract.files import open_regular
from flowherd_runner.contract.identity import boot_id, process_status
from flowherd_runner.contract.journal import STREAM_STDERR, STREAM_STDOUT
from flowherd_runner.contract.oom import oom_count
from flowherd_runner.contract.spec import RunSpec, spec_of, spec_to_json
from flowherd_runner.contract.variables import KIND_PYTHON
from flowherd_runner.flow_logging import RecordHandler
from flowherd_runner.flow_process import compose_environment
from flowherd_runner.isolation.rehearsal import rehearse_isolation
from flowherd_runner.journal_writer import JournalWriter
from flowherd_runner.kinds import load_kind
from flowherd_runner.masking import Mask
from flowherd_runner.merge import Merge
from flowherd_runner.osapi import environment
from flowherd_runner.output_reader import OutputReader, ReadingEnds
from flowherd_runner.record_sender import RecordSender
from flowherd_runner.run_processes import RunProcesses
from flowherd_runner.run_secrets import PreparedSpec, RunSecrets
from flowherd_runner.secret_values import Rules

_CODE = "def main(x=1):\n    print('line', x)\n"


def rehearse_when_idle(fd: int, idle_s: float, rehearse: Callable[[], None]) -> None:
    """Wait for data or end of file on `fd`, but rehearse when there is none for `idle_s`."""
    if select.select([fd], [], [], idle_s)[0]:
        return
    try:
        rehearse()
    except Exception:  # a real start meets the same error, and can report it
        return


def rehearse_runner() -> None:
    """Do what a runner does between the hand-over and the first line."""
    spec = _spec()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    journal, mask = JournalWriter(null, spec.max_journal_bytes), Mask()
    try:
        secrets = RunSecrets(mask, journal, Rules(spec.mask, spec.unmask))
        secrets.begin(PreparedSpec(spec, (), None))
        stdout, stdout_end = os.pipe()
        stderr, stderr_end = os.pipe()
        records, records_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        merge = Merge(b"0" * 16, (STREAM_STDOUT, STREAM_STDERR), spec.max_line_bytes, mask)
        with selectors.DefaultSelector() as selector:
            ends = ReadingEnds(stdout, stderr, records)
            output = OutputReader(selector, ends, merge, mask, journal, secrets.found, 0)
            os.write(stdout_end, b"line\n")
            for fd in (stdout_end, stderr_end):
                os.close(fd)
            records_end.close()
            selector.select(0)
            output.pump()
            output.close()
        RunProcesses(spec.flow_run_id)
        os.close(open_regular(__file__, os.O_RDONLY))
        json.dumps({"pid": process_status(os.getpid()), "boot_id": boot_id(), "oom": repr(oom_count(None))}).encode()
    finally:
        journal.close()


def rehearse_flow(apart: bool = False) -> None:
    """Do what a flow process does before the user's code, and what the import of that does.

    With `apart`, the run will have a level of isolation.
    """
    if apart:
        rehearse_isolation()
    spec = _spec()
    compose_environment(spec, environment(), None)
    os.environ.update(dict(os.environ))  # to what they are
    RecordHandler(RecordSender(2, b"0" * 16), 0)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    with io.TextIOWrapper(io.BufferedWriter(io.FileIO(null, "w")), encoding="utf-8", line_buffering=True) as stream:
        found = importlib.util.spec_from_file_location("rehearsal", __file__)
        assert found is not None
        namespace = vars(importlib.util.module_from_spec(found))
        importlib.machinery.SourceFileLoader("rehearsal", __file__).get_code("rehearsal")
        exec(compile(_CODE, "rehearsal", "exec", dont_inherit=True), namespace)  # noqa: S102 - the code is ours
        print("line", namespace["main"], file=stream)


def _spec() -> RunSpec:
    """Return the spec of no run, by way of its file's content."""
    dummy = RunSpec("-" * 36, kind=KIND_PYTHON, target={"ref": "module:main"})
    spec = spec_of(json.dumps(dict(spec_to_json(dummy), contract=1)).encode())
    load_kind(spec.kind, spec.kind_file)
    return spec
