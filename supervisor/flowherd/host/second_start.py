"""A second start of an ended run's directory, for what the run's engine wants done once the end was reported.

Prefect 3 calls hooks of runs that have crashed or were cancelled. A process that was killed cannot call them, and the
agent never runs the flow's code. So there is another process in the same interpreter, which is watched, limited, logged
and adopted like every other. It changes nothing about the run's state, and it is started once at most: if the agent
dies before that, it is not started at all.
"""

from __future__ import annotations

from collections.abc import Callable

from flowherd.engines.registry import engine_of
from flowherd.errors import RunDirectoryDamaged
from flowherd.host.intent import Intent
from flowherd.host.run import Run
from flowherd_runner.contract.spec import RunSpec


def second_intent(run: Run, changed: Callable[[], None]) -> Intent | None:
    """Make the directory of a delivered run ready for a second start, if its engine wants that; else return None.

    `changed` is called when that run has something for the backend. A directory that was started twice gets the run's
    own end back.
    """
    spec = _spec_of_second(run)
    try:
        if run.is_after_end:
            run.directory.restore_first_end()
        if spec is None:
            return None
        lock_fd = run.directory.start_again(spec)
    except (OSError, RunDirectoryDamaged) as error:
        run.log.warning("Cannot prepare what the run's engine wants after the end: {}", error, action="after-end")
        return None
    return Intent(run=Run(run.directory, spec, changed), lock_fd=lock_fd)


def _spec_of_second(run: Run) -> RunSpec | None:
    engine, report = engine_of(run.spec.kind), run.reported_end
    if engine is None or engine.after_end is None or report is None or run.is_after_end:
        return None
    spec = engine.after_end(run.spec, report, _was_killed(run), run.directory.after_end())
    if spec is None:
        return None
    # Its output is in the run's log; a terminal has shown the journal's beginning already.
    keys = spec.agent._replace(after_end=True, reports_start=False, show_output=False, warnings=())
    return spec._replace(agent=keys)


def _was_killed(run: Run) -> bool:
    try:
        record = run.directory.exit_record()
    except RunDirectoryDamaged:
        return True
    return record is None or record.get("signal") is not None
