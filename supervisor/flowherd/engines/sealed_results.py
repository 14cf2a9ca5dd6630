"""Where an engine keeps the results of tasks in a run that may not change the place in which it does so otherwise.

That is a directory below the home of the run's user. It is not made writable for every sealed run: results are pickles,
which other runs and people load, so that who may change them may have code run outside. So the run has a place of its
own: by a variable if the engine can be told, else by a directory in the place of the usual one, whose path flows may
have stored with them.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass, field

from flowherd.isolation.levels import place_of, real_paths
from flowherd_runner.contract.isolation import SEALED, Isolation
from flowherd_runner.contract.spec import RunSpec


@dataclass(frozen=True, kw_only=True)
class ResultsPlace:
    """Where an engine keeps results for lack of another place, and what it does if that cannot be changed."""

    #: The directory, below the home of the run's user.
    below_home: str
    #: What a sealed run says that may not change it.
    warning: str
    #: Variables by which they are kept elsewhere, and what they are set to; without any, the run has a directory of its
    #: own in the place of the usual one.
    instead: dict[str, str] = field(default_factory=dict)
    #: Variables by which the flow or the agent has chosen another place, and those that no run inherits of the agent.
    variables: tuple[str, ...] = ()
    not_inherited: tuple[str, ...] = ()


def with_results(
    spec: RunSpec, isolation: Isolation, place: ResultsPlace | None, chosen: Mapping[str, object]
) -> tuple[RunSpec, Isolation]:
    """Return both for a sealed run with what becomes of its results, unless it may write where they are otherwise.

    `chosen` are variables of the flow's own: of these no directory is made for it.

    A run that is to start also with less than it asked for may have the /tmp of the host, where anybody writes, so
    nothing is moved there for it.
    """
    if place is None or isolation.level != SEALED or isolation.if_missing != "refuse":
        return spec, isolation
    if any(name in spec.env or name in os.environ for name in place.variables):
        return spec, isolation
    if any(name in spec.env for name in place.not_inherited):
        return spec, isolation
    usual = os.path.realpath(f"{_home(spec)}/{place.below_home}")
    working_dir = () if spec.working_dir is None or isolation.floor == SEALED else real_paths([spec.working_dir])
    if place_of(usual, (*isolation.write, *working_dir)) is not None:
        return spec, isolation
    if not place.instead:
        if "HOME" in chosen or place_of(usual, (*isolation.covered, *isolation.hide)) is not None:
            return spec, isolation
        isolation = isolation._replace(own=(usual,))
    warning = f"{place.warning.format(usual)} To keep them, name that directory in its isolation's `write`"
    agent = spec.agent._replace(warnings=(*spec.agent.warnings, warning))
    return spec._replace(env={**spec.env, **place.instead}, agent=agent), isolation


def _home(spec: RunSpec) -> str:
    if spec.user:
        try:
            return pwd.getpwnam(spec.user).pw_dir
        except KeyError:  # the runner says so
            return "~"
    return spec.env.get("HOME") or os.path.expanduser("~")  # noqa: PTH111
