"""Single deaths on a stage: runs are made by hand, and at the end all promises about them are asked."""

from __future__ import annotations

from collections.abc import Callable

from tests.faults.evidence import Identity, facts, still_alive
from tests.faults.invariants import Kills, attribute_points, check
from tests.faults.plan import PlannedRun
from tests.faults.sides import Unanswered
from tests.faults.stage import Stage
from tests.support.leftovers import carriers
from tests.support.waiting import wait_until

#: What a stage consists of, beside its server; whatever else carries its mark belongs to a run.
_AGENT_PROGRAMS = ("flowherd start", "forkserver")


def create(
    kit: Stage,
    ending: str = "ok",
    *,
    command: bool = False,
    direct: bool = True,
    child: str = "none",
    seconds: float = 0.3,
) -> str:
    """A run for the agents; its id."""
    parameters = {"facts": str(kit.facts), "ending": ending, "seconds": seconds, "lines": 6, "child": child}
    run = PlannedRun(parameters=parameters, command=command, direct=direct, ended_by="", ended_after_s=0.0)
    return wait_until(lambda: _created(kit, run), what="a run")


def _created(kit: Stage, run: PlannedRun) -> str | None:
    try:
        return kit.side.create(run)
    except Unanswered:
        return None


def tend_until(kit: Stage, condition: Callable[[], object], what: str) -> None:
    """Wait, and start again meanwhile what has died."""

    def met() -> object:
        kit.tend()
        return condition()

    wait_until(met, timeout_s=45, what=lambda: f"{what}; the agent says:\n{kit.agents[0].output.read_text()[-6000:]}")


def ended(kit: Stage, run_ids: list[str]) -> bool:
    """Whether they are over."""
    states = kit.side.states()
    return all(states[run_id] in kit.side.rules.finals for run_id in run_ids)


def flow_of(kit: Stage, run_id: str) -> Identity:
    """Its flow process, once it has come to its planned end and hangs there."""
    tend_until(kit, lambda: facts(kit.facts, run_id).end == "hang", "the flow's hanging")
    return facts(kit.facts, run_id).flows[0]


def check_all(kit: Stage, run_ids: list[str], kills: dict[str, Kills], points: list[tuple[str, Identity]]) -> None:
    """All promises about these runs, which have ended."""
    if kit.side.rules.agent_ends_runs:
        _check_none_alive(kit, run_ids)
    tend_until(kit, lambda: not kit.run_directories(), f"the end of the directories {kit.run_directories()}")
    _check_none_alive(kit, run_ids)
    found = {run_id: facts(kit.facts, run_id) for run_id in run_ids}
    killed = {run_id: kills.get(run_id, Kills()) for run_id in run_ids}
    attribute_points(points, found, killed, kit.side.rules.traceless_points)
    for run_id in run_ids:
        assert list(check(kit.side.rules, kit.side.run(run_id), found[run_id], killed[run_id])) == []
    programs = (kit.side.server_words, *_AGENT_PROGRAMS)
    others = [line for line in carriers(kit.mark) if not any(name in line for name in programs)]
    assert others == []


def _check_none_alive(kit: Stage, run_ids: list[str]) -> None:
    left = {run_id: still_alive(facts(kit.facts, run_id)) for run_id in run_ids}
    assert not any(left.values()), left
