"""Single deaths in a cluster: tests create the runs, and at the end all promises about them are checked."""

from __future__ import annotations

from collections.abc import Callable

from tests.faults.backends import Unanswered
from tests.faults.cluster import Cluster
from tests.faults.evidence import Identity, facts, still_alive
from tests.faults.invariants import RunFaults, attribute_points, check
from tests.faults.plan import PlannedRun
from tests.support.leftovers import carriers
from tests.support.waiting import wait_until

#: Programs of a cluster besides its server; every other process with its mark belongs to a run.
_AGENT_PROGRAMS = ("flowherd start", "forkserver")


def create(
    cluster: Cluster,
    ending: str = "ok",
    *,
    command: bool = False,
    direct: bool = True,
    child: str = "none",
    seconds: float = 0.3,
) -> str:
    """Create a run for the agents; return its id."""
    parameters = {"facts": str(cluster.facts), "ending": ending, "seconds": seconds, "lines": 6, "child": child}
    run = PlannedRun(parameters=parameters, command=command, direct=direct, ended_by="", ended_after_s=0.0)
    return wait_until(lambda: _created(cluster, run), what="a run")


def _created(cluster: Cluster, run: PlannedRun) -> str | None:
    try:
        return cluster.backend.create(run)
    except Unanswered:
        return None


def tend_until(cluster: Cluster, condition: Callable[[], object], what: str) -> None:
    """Wait, and meanwhile start again what has died."""

    def met() -> object:
        cluster.tend()
        return condition()

    wait_until(
        met, timeout_s=45, what=lambda: f"{what}; output of the agent:\n{cluster.agents[0].output.read_text()[-6000:]}"
    )


def ended(cluster: Cluster, run_ids: list[str]) -> bool:
    """Whether they have ended."""
    states = cluster.backend.states()
    return all(states[run_id] in cluster.backend.rules.finals for run_id in run_ids)


def flow_of(cluster: Cluster, run_id: str) -> Identity:
    """Return its flow process once it hangs at its planned end."""
    tend_until(cluster, lambda: facts(cluster.facts, run_id).end == "hang", "the flow's hanging")
    return facts(cluster.facts, run_id).flows[0]


def check_all(
    cluster: Cluster, run_ids: list[str], run_faults: dict[str, RunFaults], points: list[tuple[str, Identity]]
) -> None:
    """Check all promises about these runs, which have ended."""
    if cluster.backend.rules.agent_ends_runs:
        _check_none_alive(cluster, run_ids)
    tend_until(
        cluster, lambda: not cluster.run_directories(), f"the end of the directories {cluster.run_directories()}"
    )
    _check_none_alive(cluster, run_ids)
    found = {run_id: facts(cluster.facts, run_id) for run_id in run_ids}
    killed = {run_id: run_faults.get(run_id, RunFaults()) for run_id in run_ids}
    attribute_points(points, found, killed, cluster.backend.rules.traceless_points)
    for run_id in run_ids:
        assert list(check(cluster.backend.rules, cluster.backend.run(run_id), found[run_id], killed[run_id])) == []
    programs = (cluster.backend.server_command, *_AGENT_PROGRAMS)

    def others() -> list[str]:
        return [line for line in carriers(cluster.mark) if not any(name in line for name in programs)]

    # What an agent or its server starts for a moment, and what is just ending, has no name or another one.
    wait_until(lambda: not others(), what=lambda: f"left: {others()}")


def _check_none_alive(cluster: Cluster, run_ids: list[str]) -> None:
    left = {run_id: still_alive(facts(cluster.facts, run_id)) for run_id in run_ids}
    assert not any(left.values()), left
