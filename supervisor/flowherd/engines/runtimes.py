"""The interpreters that serve runs: the rules of the settings, the check at the agent's start, and what to warm.

Their fork servers are started elsewhere (host/processes/fork_server_pool.py).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase

from loguru import logger

from flowherd.config.settings import RuntimeSection
from flowherd.errors import ConfigurationError, DeployError
from flowherd.host.processes.interpreters import Interpreter, ask
from flowherd.values import FlowRun, Runtime


@dataclass(frozen=True, kw_only=True)
class EnginePackage:
    """What an interpreter must have installed to carry out the runs of an engine."""

    #: Name of the package on an import path.
    name: str
    #: Name in messages.
    title: str
    #: First numbers of the versions that can carry out what the backend hands out.
    lines: frozenset[str]
    #: Modules of the child side that import the package before the first run.
    preload: tuple[str, ...]
    #: Warning when no interpreter has it; empty when an agent is of use without it.
    warning_if_missing: str = ""

    def is_in(self, found: Interpreter) -> bool:
        """Whether the interpreter has a fitting version; one that is not known is assumed to fit."""
        version = found.package_version
        return found.has_package and (version is None or version.partition(".")[0] in self.lines)

    def describe(self, found: Interpreter) -> str:
        """Return words for what the interpreter has of this package when that does not fit."""
        if not found.has_package:
            return f"no module named {self.name} in {found.program}"
        return f"{self.title} {found.package_version or 'of an unknown version'} in {found.program}"

    def import_error(self, interpreter: str, failed: Mapping[str, str]) -> DeployError | None:
        """Return why the runs of an engine cannot be started there, and what to do; None when they can.

        `failed` are the errors of the modules that a fork server of that interpreter could not import.
        """
        error = next((failed[module] for module in self.preload if module in failed), None)
        if error is None:
            return None
        what = f"cannot import {self.name} in {interpreter}: {error}"
        if f"No module named '{self.name}'" in error:
            what = f"no module named {self.name} in {interpreter}"
        return DeployError(
            f"{what}; name a runtime that has it, for this flow's labels, name or {self.title} version: "
            "flowherd start --runtime NAME=VIRTUAL-ENVIRONMENT, or [[runtimes]]"
        )


@dataclass(frozen=True, kw_only=True)
class RuntimeRule:
    """An interpreter of the settings, and which runs it serves: those that meet every condition that is set here."""

    name: str
    #: A program, or the directory of a virtual environment.
    interpreter: str
    #: Modules to import in addition to those that the kind of run needs.
    preload: tuple[str, ...] = ()
    #: The run carries one of these labels; empty matches any run.
    labels: frozenset[str] = frozenset()
    #: Names of flows, in which `*` and `?` stand for any characters; empty matches any flow.
    flows: tuple[str, ...] = ()
    #: The engine's version with which the flow was registered, as in "0.*". None matches any version, and flows
    #: without one.
    core_version: str | None = None
    #: Whether the package of the backend's engine is installed there, in a version that fits.
    has_engine: bool = True
    #: Version of that package; None when it is not known.
    engine_version: str | None = None

    def is_meant_for(self, lines: Collection[str]) -> bool:
        """Whether `core_version` names one of these lines of versions, "3" for example, or all."""
        return self.core_version is not None and self.core_version[:1] in {*lines, "*", "?", "["}

    def serves(self, flow_run: FlowRun) -> bool:
        """Whether this interpreter is for the run."""
        flow = flow_run.flow
        return (
            (not self.labels or bool(self.labels & set(flow_run.labels)))
            and (not self.flows or any(fnmatchcase(flow.name, pattern) for pattern in self.flows))
            and (self.core_version is None or fnmatchcase(flow.core_version or "", self.core_version))
        )


def first_serving(flow_run: FlowRun, rules: Iterable[RuntimeRule]) -> RuntimeRule | None:
    """Return the first of `rules` that serves the run; None when none does."""
    return next((rule for rule in rules if rule.serves(flow_run)), None)


def together(*modules: Sequence[str]) -> tuple[str, ...]:
    """Return all modules in their order, each once."""
    return tuple(dict.fromkeys(name for names in modules for name in names))


# -- at the agent's start


def checked_rules(
    sections: Sequence[RuntimeSection], env: Mapping[str, str], package: EnginePackage | None
) -> tuple[RuntimeRule, ...]:
    """Start each interpreter of the settings once, and return the rules. `package` is that of the backend's engine.

    Raises ConfigurationError, which names all that cannot be used and says what to do.
    """
    if not sections:
        return ()
    with ThreadPoolExecutor(max_workers=len(sections)) as executor:
        answers = list(executor.map(lambda section: _checked(section, env, package), sections))
    wrong = [answer for answer in answers if isinstance(answer, str)]
    wrong += [f"the runtime {name!r} is there twice" for name in _doubled(sections)]
    if wrong:
        raise ConfigurationError("; ".join(wrong))
    return tuple(answer for answer in answers if isinstance(answer, RuntimeRule))


def to_warm(
    rules: Sequence[RuntimeRule], own_preload: Sequence[str], package: EnginePackage | None
) -> Iterator[Runtime]:
    """Yield the fork servers to start before the first run: all that runs may need, except what single flows name.

    For each interpreter with the engine's package that is the one for the engine's runs; the agent's own interpreter
    gets another one without it, for all other runs.
    """
    yield Runtime(preload=tuple(own_preload))
    if package is not None and is_here(package):
        yield Runtime(preload=together(package.preload, own_preload))
    for rule in rules:
        needed = package.preload if package is not None and rule.has_engine else ()
        yield Runtime(rule.interpreter, together(needed, rule.preload))


def warnings_at_start(package: EnginePackage | None, rules: Sequence[RuntimeRule]) -> list[str]:
    """Return what to warn of before the first run: that no interpreter can carry out what the backend hands out."""
    if package is None or is_here(package) or any(rule.has_engine for rule in rules):
        return []
    return [package.warning_if_missing] if package.warning_if_missing else []


def warnings_about_versions(
    package: EnginePackage | None, server_version: str, rules: Iterable[RuntimeRule]
) -> list[str]:
    """Return a warning for each runtime whose engine is of a later minor version than the server."""
    server = _minor(server_version)
    if package is None or not server:
        return []
    return [
        f"The runtime {rule.name!r} has {package.title} {rule.engine_version}, later than the server's "
        f"{server_version}: it may ask for what is not known there"
        for rule in rules
        if rule.engine_version and _minor(rule.engine_version) > server
    ]


def is_here(package: EnginePackage) -> bool:
    """Whether the agent's own interpreter has the package, in any version."""
    return importlib.util.find_spec(package.name) is not None


def _checked(section: RuntimeSection, env: Mapping[str, str], package: EnginePackage | None) -> RuntimeRule | str:
    try:
        found = ask(section.interpreter, env, package.name if package is not None else None)
    except DeployError as error:
        return f"runtime {section.name!r}: {error}"
    rule = RuntimeRule(
        name=section.name,
        interpreter=found.program,
        preload=tuple(section.preload),
        labels=frozenset(section.labels),
        flows=tuple(section.flows),
        core_version=section.core_version,
        has_engine=package is not None and package.is_in(found),
        engine_version=found.package_version,
    )
    if package is not None and not rule.has_engine:
        words = f"runtime {section.name!r}: {package.describe(found)}"
        if rule.core_version is not None and (rule.is_meant_for(package.lines) or not found.has_package):
            return f"{words}, and it is to serve flows of {package.title} {rule.core_version}: install it there"
        if rule.core_version is None:
            logger.warning("{}; it can serve Python flows only", words)
    version = ".".join(map(str, found.version))
    logger.debug("Runtime {!r}: Python {} at {}", section.name, version, found.program)
    return rule


def _doubled(sections: Sequence[RuntimeSection]) -> list[str]:
    names = [section.name for section in sections]
    return sorted({name for name in names if names.count(name) > 1})


def _minor(version: str) -> tuple[int, ...]:
    """The first two numbers of a version; empty when there are none."""
    parts = version.split(".")[:2]
    return tuple(map(int, parts)) if len(parts) == 2 and all(part.isdecimal() for part in parts) else ()
