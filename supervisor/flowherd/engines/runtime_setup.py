"""The interpreters of the settings, at the agent's start: looked at, turned into rules, and warmed.

Which of them serves a run is decided by decisions/runtimes.py; their fork servers are processes/fork_server.py's.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from loguru import logger

from flowherd.config.settings import RuntimeSection, Settings
from flowherd.engines.runtimes import RuntimeRule, together
from flowherd.errors import ConfigurationError, DeployError
from flowherd.host.processes.interpreters import Interpreter, ask
from flowherd.values import Runtime
from flowherd_runner.contract.variables import PREFECT3_PRELOAD, PREFECT_PRELOAD


def lines_of_engine(settings: Settings) -> frozenset[str]:
    """First numbers of the versions of Prefect whose engine can carry out what these settings' backend hands out."""
    return frozenset({"3"}) if settings.prefect3.pool else frozenset({"0", "1"})


def checked_rules(
    sections: Sequence[RuntimeSection], env: Mapping[str, str], lines: Collection[str]
) -> tuple[RuntimeRule, ...]:
    """The rules of the settings, after each interpreter has answered. `lines` are those of the backend's engine.

    Raises ConfigurationError, which names all that cannot be used and says what to do.
    """
    if not sections:
        return ()
    with ThreadPoolExecutor(max_workers=len(sections)) as executor:
        answers = list(executor.map(lambda section: _checked(section, env, lines), sections))
    wrong = [answer for answer in answers if isinstance(answer, str)]
    wrong += [f"the runtime {name!r} is there twice" for name in _doubled(sections)]
    if wrong:
        raise ConfigurationError("; ".join(wrong))
    return tuple(answer for answer in answers if isinstance(answer, RuntimeRule))


def preload_of_engine(settings: Settings) -> tuple[str, ...]:
    """What the runs of Prefect's own engine need that these settings' backend hands out."""
    return PREFECT3_PRELOAD if settings.prefect3.pool else PREFECT_PRELOAD


def to_warm(rules: Sequence[RuntimeRule], own_preload: Sequence[str], of_engine: Sequence[str]) -> Iterator[Runtime]:
    """What runs may ask for, apart from what single flows name: each has its fork server started before the first run.

    For each interpreter with Prefect the one for Prefect runs, and the agent's own without too, for all other runs.
    `of_engine` is what the Prefect runs of the agent's backend need.
    """
    yield Runtime(preload=tuple(own_preload))
    if _has_own_prefect():
        yield Runtime(preload=together(of_engine, own_preload))
    for rule in rules:
        yield Runtime(rule.interpreter, together(of_engine, rule.preload) if rule.has_prefect else rule.preload)


def serves_engine(rules: Sequence[RuntimeRule]) -> bool:
    """Whether any interpreter that is known here has a Prefect for runs of its engine."""
    return _has_own_prefect() or any(rule.has_prefect for rule in rules)


def _has_own_prefect() -> bool:
    return importlib.util.find_spec("prefect") is not None


def _checked(section: RuntimeSection, env: Mapping[str, str], lines: Collection[str]) -> RuntimeRule | str:
    try:
        found = ask(section.interpreter, env)
    except DeployError as error:
        return f"runtime {section.name!r}: {error}"
    rule = RuntimeRule(
        name=section.name,
        interpreter=found.program,
        preload=tuple(section.preload),
        labels=frozenset(section.labels),
        flows=tuple(section.flows),
        core_version=section.core_version,
        has_prefect=has_engine(found, lines),
        prefect_version=found.prefect_version,
    )
    if not rule.has_prefect:
        words = f"runtime {section.name!r}: {what_is_there(found)}"
        if rule.core_version is not None and (rule.is_meant_for(lines) or not found.has_prefect):
            return f"{words}, and it is to serve flows of Prefect {rule.core_version}: install it there"
        if rule.core_version is None:
            logger.warning("{}; it can serve Python flows only", words)
    version = ".".join(map(str, found.version))
    logger.debug("Runtime {!r}: Python {} at {}", section.name, version, found.program)
    return rule


def has_engine(found: Interpreter, lines: Collection[str]) -> bool:
    """Whether its Prefect is of one of these lines; one whose version is not known is taken for it."""
    return found.has_prefect and (found.prefect_version is None or found.prefect_version.partition(".")[0] in lines)


def what_is_there(found: Interpreter) -> str:
    """Words for the Prefect that an interpreter has, when it is not the one that is needed."""
    if not found.has_prefect:
        return f"no module named prefect in {found.program}"
    return f"Prefect {found.prefect_version or 'of an unknown version'} in {found.program}"


def _doubled(sections: Sequence[RuntimeSection]) -> list[str]:
    names = [section.name for section in sections]
    return sorted({name for name in names if names.count(name) > 1})
