"""Which interpreter serves a flow run, and what that has imported before the run is forked. Decides, starts nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from flowherd.values import FlowRun


@dataclass(frozen=True)
class Runtime:
    """What a fork server is: an interpreter and the modules that it has imported before it forks."""

    interpreter: str = sys.executable
    preload: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RuntimeRule:
    """An interpreter of the settings, and which runs it serves: those that meet everything that is set here."""

    name: str
    #: A program, or the directory of a virtual environment.
    interpreter: str
    #: Imported beside what the kind of run needs.
    preload: tuple[str, ...] = ()
    #: The run carries one of them; empty is any run.
    labels: frozenset[str] = frozenset()
    #: Names of flows, `*` and `?` stand for any characters; empty is any flow.
    flows: tuple[str, ...] = ()
    #: The version of Prefect that the flow was registered with, as in "0.*"; None is any, and none too.
    core_version: str | None = None
    #: Prefect is installed there.
    has_prefect: bool = True

    def serves(self, flow_run: FlowRun) -> bool:
        """Whether this runtime is for the run."""
        flow = flow_run.flow
        return (
            (not self.labels or bool(self.labels & set(flow_run.labels)))
            and (not self.flows or any(fnmatchcase(flow.name, pattern) for pattern in self.flows))
            and (self.core_version is None or fnmatchcase(flow.core_version or "", self.core_version))
        )


def first_serving(flow_run: FlowRun, rules: Iterable[RuntimeRule]) -> RuntimeRule | None:
    """The first of `rules` that is for the run, if any is."""
    return next((rule for rule in rules if rule.serves(flow_run)), None)


def together(*modules: Sequence[str]) -> tuple[str, ...]:
    """All modules in their order, each once."""
    return tuple(dict.fromkeys(name for names in modules for name in names))
