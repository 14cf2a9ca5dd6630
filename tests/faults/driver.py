"""Performs a plan on a stage: starts runs, injects faults, and at the end asks of every run whether all is true."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from flowherd_runner.contract.oom import oom_count
from tests.faults import plan
from tests.faults.evidence import Facts, Identity, Stored, facts, still_alive
from tests.faults.invariants import Kills, Violation, attribute_points, check
from tests.faults.plan import Fault, PlannedRun
from tests.faults.report import Report
from tests.faults.sides import Side, Unanswered
from tests.faults.sides.embedded import Embedded
from tests.faults.stage import Stage, stage
from tests.support.leftovers import carriers

#: A run that is older holds no place any more.
_OLD_S = 40.0
#: The weather is looked at so often.
_WEATHER_S = 0.3
_TICK_S = 0.05
#: Flow processes are killed with these, the pick of the fault deciding.
_SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV)


def perform(base: Path, seed: int, minutes: float, agents: int = 2, side: type[Side] = Embedded) -> Report:
    """Play the session of `seed` on the empty directory `base`."""
    report = Report(seed=seed, minutes=minutes)
    with stage(base, seed, agents, side) as built:
        Session(built, report).play()
    return report


class Session:
    """One session under way."""

    def __init__(self, built: Stage, report: Report) -> None:
        self._stage = built
        self._side = built.side
        self._finals = built.side.rules.finals
        self._report = report
        self._runs = plan.runs(report.seed, str(built.facts))
        self._planned: dict[str, PlannedRun] = {}
        self._created_s: dict[str, float] = {}
        self._final: set[str] = set()
        #: Runs that are over, while something of them may still have to end.
        self._ending: set[str] = set()
        self._server_away = False
        self._storming = False
        self._weather_at_s = 0.0
        self._kills: dict[str, Kills] = defaultdict(Kills)
        #: Who died at a fault point, and at which.
        self._points: list[tuple[str, Identity]] = []
        self._oom_kills = oom_count(None)
        #: Runs whose cancellation the server has confirmed.
        self._cancelled: set[str] = set()
        self._hanging_since_s: dict[str, float] = {}
        #: What is to be done later: time and action.
        self._later: list[tuple[float, Callable[[], object]]] = []

    def play(self) -> None:
        """All of it."""
        start_s = time.monotonic()
        due = plan.faults(self._report.seed, self._report.minutes, self._side.pace)
        while (now_s := time.monotonic() - start_s) < 60 * self._report.minutes:
            while due and due[0].at_s <= now_s:
                self._inject(due.pop(0))
            self._tick(more=True)
        self._calm()
        deadline_s = time.monotonic() + self._side.pace.calm_s
        while time.monotonic() < deadline_s and not self._all_ended():
            self._tick(more=False)
        self._finish()

    def _all_ended(self) -> bool:
        return set(self._side.states().values()) <= set(self._finals) and not self._stage.run_directories()

    def _tick(self, *, more: bool) -> None:
        tick_s = time.monotonic()
        for action in [action for at_s, action in self._later if at_s <= tick_s]:
            action()
        self._later = [entry for entry in self._later if entry[0] > tick_s]
        self._stage.tend()
        self._note_points()
        self._note_weather()
        going = self._look()
        if more:
            self._create(going)
        time.sleep(max(0.0, tick_s + _TICK_S - time.monotonic()))

    # -- runs

    def _create(self, going: list[str]) -> None:
        now_s = time.monotonic()
        young = [run_id for run_id in going if now_s - self._created_s.setdefault(run_id, now_s) < _OLD_S]
        try:
            for _ in range(self._side.pace.at_a_time - len(young)):
                planned = next(self._runs)
                run_id = self._side.create(planned)
                self._planned[run_id] = planned
                self._created_s[run_id] = time.monotonic()
        except Unanswered:  # the server is dead; if it took the run all the same, the database says so
            return

    def _look(self) -> list[str]:
        """The runs that are not over; what a run left behind is looked for as soon as it is over."""
        going = []
        for run_id, state in self._side.states().items():
            if run_id in self._final:
                continue
            if state in self._finals:
                self._final.add(run_id)
                self._ending.add(run_id)
            else:
                going.append(run_id)
                self._end_hanging(run_id, facts(self._stage.facts, run_id))
        for run_id in list(self._ending):
            if self._has_ended(run_id):
                self._ending.discard(run_id)
                self._check_left(run_id, facts(self._stage.facts, run_id))
        return going

    def _has_ended(self, run_id: str) -> bool:
        """Whether nothing of it may be there any more; an engine speaks of its run's end before its own."""
        rules = self._side.rules
        return rules.agent_ends_runs or not any(Path(path).name == run_id for path in self._stage.run_directories())

    def _check_left(self, run_id: str, found: Facts) -> None:
        if self._kills[run_id].cancelled and self._side.run(run_id).reason is None:
            return  # the server's word, before the agent could do anything; what is left at the end is seen then
        left = still_alive(found)
        if left:
            self._break("leftovers", run_id, f"it has ended and these live: {left}; {found}; {self._kills[run_id]}")

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
        """Once is enough: that the run ends then is the agent's part."""
        if run_id in self._cancelled:
            return
        self._kills[run_id].cancelled = True  # the server may take it and die before it says so
        with contextlib.suppress(Unanswered):
            self._report.faults["runs cancelled"] += self._side.cancel(run_id)
            self._cancelled.add(run_id)

    # -- faults

    def _inject(self, fault: Fault) -> None:
        if fault.kind == "arm point":
            self._stage.arm(fault.point, fault.count)
        elif fault.kind == "storm":
            self._storm(True)
            self._after(1.0 + 2 * fault.duration_s, lambda: self._storm(False))
        elif fault.kind == "cancel run":
            going = sorted(self._created_s.keys() - self._final)
            if going:
                self._cancel(self._one_of(going, fault))
        elif fault.kind == "stop agent":
            agent = self._one_of(self._stage.agents, fault)
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
            going = {run_id: facts(self._stage.facts, run_id) for run_id in self._created_s.keys() - self._final}
            living = sorted(run_id for run_id, found in going.items() if any(one.alive for one in found.flows))
            if living:
                run_id = self._one_of(living, fault)
                number = random.Random(fault.pick).choice(_SIGNALS)
                self._kill_of_run(run_id, going[run_id], victim, number)
        elif victim == "agent":
            agent = self._one_of(self._stage.agents, fault)
            self._count(victim, agent.age_s >= self._side.pace.grown_s and agent.kill(fault.duration_s))
        elif victim == "server":
            # One that is starting is left alone: where that takes longer than the next kill, nothing would ever run.
            self._count(victim, not self._server_away and self._stage.server.kill(fault.duration_s))
            self._server_away = True
        else:
            servers = self._stage.fork_servers()
            self._count(victim, bool(servers) and send(self._one_of(servers, fault), signal.SIGKILL))

    def _storm(self, blowing: bool) -> None:
        self._stage.proxy.storm(blowing)
        self._note_weather()  # of the storm that ends, too
        self._storming = blowing
        self._note_weather()

    def _note_weather(self) -> None:
        """Whose engine cannot talk to the server now; it is away until it answers again."""
        if self._server_away and time.monotonic() - self._weather_at_s > _WEATHER_S:
            self._weather_at_s = time.monotonic()
            self._server_away = not self._side.answers()
        if self._server_away or self._storming:
            for run_id in self._created_s.keys() - self._final:
                self._kills[run_id].server_away |= self._server_away
                self._kills[run_id].storm |= self._storming

    def _kill_of_run(self, run_id: str, found: Facts, victim: str, number: signal.Signals) -> None:
        if victim == "runner":
            killed = any(send(one, signal.SIGKILL) for one in found.runners)
            self._kills[run_id].runner |= killed
        else:
            killed = any(send(one, number) for one in found.flows)
            if killed:
                self._kills[run_id].flow.append(number.name)
        self._count(victim, killed)

    def _count(self, victim: str, killed: bool) -> None:
        if killed:
            self._report.faults[f"killed {victim}"] += 1

    def _note_points(self) -> None:
        for point, who in self._stage.fired():
            self._report.faults[f"died at {point}"] += 1
            self._points.append((point, who))

    def _after(self, delay_s: float, action: Callable[[], object]) -> None:
        self._later.append((time.monotonic() + delay_s, action))

    @staticmethod
    def _one_of(candidates: list, fault: Fault):  # type: ignore[no-untyped-def,type-arg]
        return candidates[int(fault.pick * len(candidates))]

    # -- the end

    def _calm(self) -> None:
        self._stage.disarm()
        self._note_points()
        self._storm(False)
        self._later.clear()
        for agent in self._stage.agents:
            agent.send(signal.SIGCONT)

    def _finish(self) -> None:
        self._look()
        stored = {run_id: self._side.run(run_id) for run_id in self._side.states()}
        # Those that are said to have lost their runner come first: deaths of unknown runners are given to them.
        ids = sorted(stored, key=lambda run_id: "runner" not in stored[run_id].message)
        found = {run_id: facts(self._stage.facts, run_id) for run_id in ids}
        attribute_points(self._points, found, self._kills, self._side.rules.traceless_points)
        for run_id in stored:
            self._examine(stored[run_id], found[run_id])
        for complaint in self._complaints():
            self._break("programs that ended by themselves", "-", complaint)
        left = carriers(self._stage.mark)
        deadline_s = time.monotonic() + 5
        while left and time.monotonic() < deadline_s:
            time.sleep(0.05)
            left = carriers(self._stage.mark)
        for line in left:
            self._break("leftovers", "-", f"process {line}")
        for path in self._stage.run_directories():
            self._break(
                "leftovers", Path(path).name, f"directory {path}: {sorted(p.name for p in Path(path).iterdir())}"
            )
        for kind, count in self._stage.proxy.injected.items():
            self._report.faults[f"request {kind}"] += count

    def _examine(self, stored: Stored, found: Facts) -> None:
        kills = self._kills[stored.run_id]
        kills.oom_on_host = oom_count(None) != self._oom_kills
        self._report.runs += 1
        self._report.ends[f"{stored.state} ({stored.reason or stored.sort})"] += 1
        self._report.lines += len(stored.lines)
        self._report.lines_unread += len(set(found.lines) - set(stored.lines)) if kills.runner else 0
        self._report.violations += check(self._side.rules, stored, found, kills)

    def _complaints(self) -> Iterator[str]:
        for program in (self._stage.server, *self._stage.agents):
            for code in program.surprises:
                yield f"{program.name} ended with {code}, see {program.output}"
        yield from self._stage.stop()

    def _break(self, kind: str, run_id: str, evidence: str) -> None:
        self._report.violations.append(Violation(kind=kind, run_id=run_id, evidence=evidence))


def send(target: Identity, number: signal.Signals) -> bool:
    """Send a signal to that very process; whether it lived."""
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
