"""Carries out a plan on a cluster: creates runs, injects faults, and at the end checks every run."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from flowherd_runner.contract.oom import oom_count
from tests.faults import plan
from tests.faults.backends import BackendUnderTest, Unanswered
from tests.faults.backends.embedded import Embedded
from tests.faults.cluster import Cluster, running_cluster
from tests.faults.evidence import Facts, Identity, StoredRun, facts, still_alive
from tests.faults.invariants import RunFaults, Violation, attribute_points, check
from tests.faults.plan import Fault, PlannedRun
from tests.faults.report import Report
from tests.support.leftovers import carriers

#: Pause between two looks whether the server is back, seconds.
_LOOK_S = 0.3
_TICK_S = 0.05
#: Signals for flow processes; the pick of the fault decides.
_SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV)


def perform(
    base: Path,
    seed: int,
    minutes: float,
    agents: int = 2,
    backend: type[BackendUnderTest] = Embedded,
    levels: Sequence[str] = ("none",),
) -> Report:
    """Carry out the session of `seed` in the empty directory `base`; runs have one of `levels` of isolation."""
    report = Report(seed=seed, minutes=minutes)
    with running_cluster(base, seed, agents, backend) as cluster:
        Session(cluster, report, levels).run()
    return report


class Session:
    """One session."""

    def __init__(self, cluster: Cluster, report: Report, levels: Sequence[str]) -> None:
        self._cluster = cluster
        self._backend = cluster.backend
        self._finals = cluster.backend.rules.finals
        self._report = report
        self._runs = plan.runs(report.seed, str(cluster.facts), levels, cluster.backend.rates.run_s)
        self._planned: dict[str, PlannedRun] = {}
        self._created_s: dict[str, float] = {}
        self._final: set[str] = set()
        #: Runs that have ended, while something of them may still be there.
        self._ending: set[str] = set()
        self._server_away = False
        self._injecting = False
        self._disk_is_full = False
        self._looked_at_s = 0.0
        self._run_faults: dict[str, RunFaults] = defaultdict(RunFaults)
        #: Deaths at fault points, with the processes.
        self._points: list[tuple[str, Identity]] = []
        self._oom_kills = oom_count(None)
        #: Runs whose cancellation the server has confirmed.
        self._cancelled: set[str] = set()
        self._hanging_since_s: dict[str, float] = {}
        #: Time (monotonic) and action of what is to be done later.
        self._later: list[tuple[float, Callable[[], object]]] = []

    def run(self) -> None:
        """Carry out all of it."""
        start_s = time.monotonic()
        due = plan.faults(self._report.seed, self._report.minutes, self._backend.rates)
        while (now_s := time.monotonic() - start_s) < 60 * self._report.minutes:
            while due and due[0].at_s <= now_s:
                self._inject(due.pop(0))
            self._tick(more=True)
        self._settle()
        deadline_s = time.monotonic() + self._backend.rates.settle_s
        while time.monotonic() < deadline_s and not self._all_ended():
            self._tick(more=False)
        self._finish()

    def _all_ended(self) -> bool:
        return set(self._backend.states().values()) <= set(self._finals) and not self._cluster.run_directories()

    def _tick(self, *, more: bool) -> None:
        tick_s = time.monotonic()
        for action in [action for at_s, action in self._later if at_s <= tick_s]:
            action()
        self._later = [entry for entry in self._later if entry[0] > tick_s]
        self._cluster.tend()
        self._note_points()
        self._note_network()
        going = self._look()
        if more:
            self._create(going)
        time.sleep(max(0.0, tick_s + _TICK_S - time.monotonic()))

    # -- runs

    def _create(self, going: list[str]) -> None:
        now_s = time.monotonic()
        old_s = self._backend.rates.old_s
        young = [run_id for run_id in going if now_s - self._created_s.setdefault(run_id, now_s) < old_s]
        try:
            for _ in range(self._backend.rates.runs_at_a_time - len(young)):
                planned = next(self._runs)
                run_id = self._backend.create(planned)
                self._planned[run_id] = planned
                self._created_s[run_id] = time.monotonic()
        except Unanswered:  # the server is dead; if it has created the run all the same, the database has it
            return

    def _look(self) -> list[str]:
        """Return the runs that have not ended; check what a run has left behind as soon as it has ended."""
        going = []
        for run_id, state in self._backend.states().items():
            if run_id in self._final:
                continue
            if state in self._finals:
                self._final.add(run_id)
                self._ending.add(run_id)
            else:
                going.append(run_id)
                self._end_hanging(run_id, facts(self._cluster.facts, run_id))
        for run_id in list(self._ending):
            if self._has_ended(run_id):
                self._ending.discard(run_id)
                self._check_left(run_id, facts(self._cluster.facts, run_id))
        return going

    def _has_ended(self, run_id: str) -> bool:
        """Whether nothing of it may be left: an engine reports the end of its run before its own."""
        rules = self._backend.rules
        return rules.agent_ends_runs or not any(Path(path).name == run_id for path in self._cluster.run_directories())

    def _check_left(self, run_id: str, found: Facts) -> None:
        if self._run_faults[run_id].cancelled and self._backend.run(run_id).reason is None:
            return  # the server has ended it before the agent could; the check at the end covers it
        left = still_alive(found)
        if left:
            self._break(
                "leftovers", run_id, f"it has ended and these are alive: {left}; {found}; {self._run_faults[run_id]}"
            )

    def _end_hanging(self, run_id: str, found: Facts) -> None:
        if found.end != "hang":
            return
        planned = self._planned.get(run_id)
        since_s = self._hanging_since_s.setdefault(run_id, time.monotonic())
        if time.monotonic() < since_s + (planned.ended_after_s if planned else 0.0):
            return
        self._hanging_since_s[run_id] = time.monotonic()  # not again at once
        if planned is not None and planned.ended_by == "user":
            self._cancel(run_id)
        else:
            self._kill_of_run(run_id, found, planned.ended_by if planned else "flow", signal.SIGKILL)

    def _cancel(self, run_id: str) -> None:
        """Cancel a run once; the agent has to end it."""
        if run_id in self._cancelled:
            return
        self._run_faults[run_id].cancelled = True  # the server may accept it and die before it answers
        with contextlib.suppress(Unanswered):
            self._report.faults["runs cancelled"] += self._backend.cancel(run_id)
            self._cancelled.add(run_id)

    # -- faults

    def _inject(self, fault: Fault) -> None:
        if fault.kind == "arm point":
            self._cluster.arm(fault.point, fault.count)
        elif fault.kind == "network faults":
            self._inject_network_faults(True)
            self._after(1.0 + 2 * fault.duration_s, lambda: self._inject_network_faults(False))
        elif fault.kind == "fill disk":
            if self._backend.fill_disk():
                self._report.faults["disk of the server filled"] += 1
                self._disk_is_full = True
                self._after(0.5 + fault.duration_s, self._free_disk)
        elif fault.kind == "cancel run":
            going = sorted(self._created_s.keys() - self._final)
            if going:
                self._cancel(self._one_of(going, fault))
        elif fault.kind == "stop agent":
            agent = self._one_of(self._cluster.agents, fault)
            if agent.send(signal.SIGSTOP):
                self._report.faults["agent stopped for a while"] += 1
                self._after(0.5 + fault.duration_s, lambda: agent.send(signal.SIGCONT))
        elif fault.kind == "kill several":
            for victim in fault.victims:
                self._kill(victim, fault)
        else:
            self._kill(fault.kind.removeprefix("kill "), fault)

    def _kill(self, victim: str, fault: Fault) -> None:
        if victim in ("flow", "runner"):
            going = {run_id: facts(self._cluster.facts, run_id) for run_id in self._created_s.keys() - self._final}
            living = sorted(run_id for run_id, found in going.items() if any(one.alive for one in found.flows))
            if living:
                run_id = self._one_of(living, fault)
                number = random.Random(fault.pick).choice(_SIGNALS)
                self._kill_of_run(run_id, going[run_id], victim, number)
        elif victim == "agent":
            agent = self._one_of(self._cluster.agents, fault)
            self._count(victim, agent.age_s >= self._backend.rates.grown_s and agent.kill(fault.duration_s))
        elif victim == "server":
            # Not while it starts: if a start took longer than the pause between kills, nothing would ever run.
            self._count(victim, not self._server_away and self._cluster.server.kill(fault.duration_s))
            self._server_away = True
        else:
            servers = self._cluster.fork_servers()
            self._count(victim, bool(servers) and send(self._one_of(servers, fault), signal.SIGKILL))

    def _inject_network_faults(self, on: bool) -> None:
        self._cluster.proxy.inject(on)
        self._note_network()  # also when they stop
        self._injecting = on
        self._note_network()

    def _free_disk(self) -> None:
        self._backend.free_disk()
        self._note_network()
        self._disk_is_full = False

    def _note_network(self) -> None:
        """Note which runs have a server that is away, until it answers again, or a network with faults."""
        if self._server_away and time.monotonic() - self._looked_at_s > _LOOK_S:
            self._looked_at_s = time.monotonic()
            self._server_away = not self._backend.answers()
        if self._server_away or self._injecting or self._disk_is_full:
            for run_id in self._created_s.keys() - self._final:
                self._run_faults[run_id].server_away |= self._server_away or self._disk_is_full
                self._run_faults[run_id].network_faults |= self._injecting

    def _kill_of_run(self, run_id: str, found: Facts, victim: str, number: signal.Signals) -> None:
        if victim == "runner":
            killed = any(send(one, signal.SIGKILL) for one in found.runners)
            self._run_faults[run_id].runner_killed |= killed
        else:
            killed = any(send(one, number) for one in found.flows)
            if killed:
                self._run_faults[run_id].flow_signals.append(number.name)
        self._count(victim, killed)

    def _count(self, victim: str, killed: bool) -> None:
        if killed:
            self._report.faults[f"killed {victim}"] += 1

    def _note_points(self) -> None:
        for point, who in self._cluster.fired():
            self._report.faults[f"died at {point}"] += 1
            self._points.append((point, who))

    def _after(self, delay_s: float, action: Callable[[], object]) -> None:
        self._later.append((time.monotonic() + delay_s, action))

    @staticmethod
    def _one_of(candidates: list, fault: Fault):  # type: ignore[no-untyped-def,type-arg]
        return candidates[int(fault.pick * len(candidates))]

    # -- the end

    def _settle(self) -> None:
        self._cluster.disarm()
        self._note_points()
        self._inject_network_faults(False)
        self._later.clear()
        self._free_disk()
        for agent in self._cluster.agents:
            agent.send(signal.SIGCONT)

    def _finish(self) -> None:
        self._look()
        stored = {run_id: self._backend.run(run_id) for run_id in self._backend.states()}
        # Those that are said to have lost their runner come first: deaths of unknown runners are given to them.
        ids = sorted(stored, key=lambda run_id: "runner" not in stored[run_id].message)
        found = {run_id: facts(self._cluster.facts, run_id) for run_id in ids}
        attribute_points(self._points, found, self._run_faults, self._backend.rules.traceless_points)
        for run_id in stored:
            self._examine(stored[run_id], found[run_id])
        for complaint in self._complaints():
            self._break("programs that ended by themselves", "-", complaint)
        left = carriers(self._cluster.mark)
        deadline_s = time.monotonic() + 5
        while left and time.monotonic() < deadline_s:
            time.sleep(0.05)
            left = carriers(self._cluster.mark)
        for line in left:
            self._break("leftovers", "-", f"process {line}")
        for path in self._cluster.run_directories():
            self._break(
                "leftovers", Path(path).name, f"directory {path}: {sorted(p.name for p in Path(path).iterdir())}"
            )
        for kind, count in self._cluster.proxy.injected.items():
            self._report.faults[f"request {kind}"] += count

    def _examine(self, stored: StoredRun, found: Facts) -> None:
        run_faults = self._run_faults[stored.run_id]
        run_faults.oom_on_host = oom_count(None) != self._oom_kills
        self._report.runs += 1
        self._report.levels[self._planned[stored.run_id].level if stored.run_id in self._planned else "?"] += 1
        self._report.ends[f"{stored.state} ({stored.reason or stored.sort})"] += 1
        self._report.lines += len(stored.lines)
        self._report.lines_unread += len(set(found.lines) - set(stored.lines)) if run_faults.runner_killed else 0
        self._report.violations += check(self._backend.rules, stored, found, run_faults)

    def _complaints(self) -> Iterator[str]:
        for program in (self._cluster.server, *self._cluster.agents):
            for code in program.surprises:
                yield f"{program.name} ended with {code}, see {program.output}"
        yield from self._cluster.stop()

    def _break(self, kind: str, run_id: str, evidence: str) -> None:
        self._report.violations.append(Violation(kind=kind, run_id=run_id, evidence=evidence))


def send(target: Identity, number: signal.Signals) -> bool:
    """Send a signal to exactly this process; return whether it was alive."""
    try:
        pidfd = os.pidfd_open(target.pid)
    except ProcessLookupError:
        return False
    try:
        if not target.alive:
            return False
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True
