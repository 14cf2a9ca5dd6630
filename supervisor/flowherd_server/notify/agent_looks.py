"""Looks at agents and hosts: those that are away, that have much output to send, and disks that are nearly full."""

from __future__ import annotations

import socket

from flowherd.host_figures import DiskFigures
from flowherd.notify.kinds import Kind
from flowherd.notify.rules import Subject
from flowherd.notify.thresholds import is_much_unsent, is_nearly_full
from flowherd.notify.wording import disk_title, spool_title
from flowherd.shown_times import spoken_span
from flowherd.story.records import AGENT_ALIVE_S, AgentView
from flowherd_server.notify.found import Around, Found

#: An agent that was not heard of for this time is forgotten, seconds.
_FORGOTTEN_S = 86_400.0
#: Words of a hold by which an agent announces its end.
_ENDING = frozenset({"stopping", "draining", "restarting"})
_ANYTHING = Subject()


def look_for_absent_agents(around: Around, found: Found) -> None:
    """Look for agents that were not heard of for a minute, and were not stopped."""
    seen = set()
    for agent in around.agents():  # the newest row of a name first
        key = _key(Kind.AGENT_AWAY, agent)
        if agent.connected or key not in seen:
            _away(around, found, agent, key)
        seen.add(key)


def _away(around: Around, found: Found, agent: AgentView, key: str) -> None:
    report, about = agent.report, Subject(labels=agent.labels)
    silent_s = float("inf")
    if agent.last_queried is not None:
        silent_s = (around.now - agent.last_queried).total_seconds()
    if agent.connected or silent_s < AGENT_ALIVE_S:
        found.troubles = [each for each in found.troubles if each.key != key]
        found.relief(key, f"{_named(agent)} is back", about, agent=agent.name)
    elif report is not None and report.hold in _ENDING:
        pass  # it was stopped, which is no trouble any more
    elif agent.last_queried is not None and (silent_s < _FORGOTTEN_S or key in around.known):
        runs = (
            f", with {report.runs} run{'' if report.runs == 1 else 's'}" if report is not None and report.runs else ""
        )
        what = f"{_named(agent)} is away: not heard of for {spoken_span(silent_s)}{runs}"
        found.trouble(key, Kind.AGENT_AWAY, what, about, agent.last_queried.timestamp(), agent=agent.name)


def look_for_unsent_output(around: Around, found: Found) -> None:
    """Look for agents with much output that the server does not have yet."""
    living = [agent for agent in around.agents() if agent.connected or _is_fresh(around, agent)]
    for agent in living:
        report, key = agent.report, _key(Kind.SPOOL, agent)
        if report is None or report.unsent_bytes is None or not report.unsent_most_bytes:
            continue
        unsent, most = report.unsent_bytes, report.unsent_most_bytes
        is_much = is_much_unsent(unsent, most, was_much=key in around.known)
        what, about = spool_title(_named(agent), unsent, most, is_much=is_much), Subject(labels=agent.labels)
        if is_much:
            found.trouble(key, Kind.SPOOL, what, about, None, agent=agent.name)
        else:
            found.relief(key, what, about, agent=agent.name)
    found.kept |= around.keys_of(Kind.SPOOL) - {_key(Kind.SPOOL, agent) for agent in living}


def look_for_full_disks(around: Around, found: Found) -> None:
    """Look at the disk of the database, and at those of which agents report."""
    seen = set()
    newest = around.sources.host.newest
    if newest is not None:
        for disk in newest.disks:
            seen.add(_disk(around, found, disk, socket.gethostname(), _ANYTHING))
    for agent in around.agents():
        report = agent.report
        if report is not None and report.host_figures is not None and (agent.connected or _is_fresh(around, agent)):
            for disk in report.host_figures.disks:
                seen.add(_disk(around, found, disk, report.host, Subject(labels=agent.labels)))
    found.kept |= around.keys_of(Kind.DISK) - seen


def _disk(around: Around, found: Found, disk: DiskFigures, host: str, about: Subject) -> str:
    # Directories on one host that agree in this are on one file system.
    key = f"{Kind.DISK}:{host}:{disk.total_bytes}"
    if key in {each.key for each in found.troubles}:
        return key
    is_low = is_nearly_full(disk, was_full=key in around.known)
    what = disk_title(disk, host, is_low=is_low)
    if is_low:
        found.trouble(key, Kind.DISK, what, about, None)
    else:
        found.relief(key, what, about)
    return key


def _is_fresh(around: Around, agent: AgentView) -> bool:
    heard = agent.last_queried
    return heard is not None and (around.now - heard).total_seconds() < AGENT_ALIVE_S


def _key(kind: Kind, agent: AgentView) -> str:
    """Return the key of a condition of an agent: a row of its name on its host is the same agent, started again."""
    host = agent.report.host if agent.report is not None else ""
    return f"{kind}:{agent.name}@{host or ','.join(agent.labels)}"


def _named(agent: AgentView) -> str:
    host = agent.report.host if agent.report is not None else ""
    return f"Agent {agent.name or '(without a name)'}" + (f" on {host}" if host else "")
