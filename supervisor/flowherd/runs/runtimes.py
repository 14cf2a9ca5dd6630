"""The interpreters of the settings, at the agent's start: looked at, turned into rules, and warmed.

Which of them serves a run is decided by decisions/runtimes.py; their fork servers are processes/fork_server.py's.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from loguru import logger

from flowherd.config.settings import RuntimeSection, Settings
from flowherd.decisions.runtimes import Runtime, RuntimeRule, together
from flowherd.errors import ConfigurationError, DeployError
from flowherd.processes.interpreters import ask
from flowherd_runner.contract.variables import PREFECT3_PRELOAD, PREFECT_PRELOAD


def checked_rules(sections: Sequence[RuntimeSection], env: Mapping[str, str]) -> tuple[RuntimeRule, ...]:
    """The rules of the settings, after each interpreter has answered.

    Raises ConfigurationError, which names all that cannot be used and says what to do.
    """
    if not sections:
        return ()
    with ThreadPoolExecutor(max_workers=len(sections)) as executor:
        answers = list(executor.map(lambda section: _checked(section, env), sections))
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
    if importlib.util.find_spec("prefect") is not None:
        yield Runtime(preload=together(of_engine, own_preload))
    for rule in rules:
        yield Runtime(rule.interpreter, together(of_engine, rule.preload) if rule.has_prefect else rule.preload)


def _checked(section: RuntimeSection, env: Mapping[str, str]) -> RuntimeRule | str:
    try:
        found = ask(section.interpreter, env)
    except DeployError as error:
        return f"runtime {section.name!r}: {error}"
    if not found.has_prefect:
        words = f"runtime {section.name!r}: no module named prefect in {found.program}"
        if section.core_version is not None:
            return f"{words}, and it is to serve flows of Prefect {section.core_version}: install it there"
        logger.warning("{}; it can serve Python flows only", words)
    version = ".".join(map(str, found.version))
    logger.debug("Runtime {!r}: Python {} at {}", section.name, version, found.program)
    return RuntimeRule(
        name=section.name,
        interpreter=found.program,
        preload=tuple(section.preload),
        labels=frozenset(section.labels),
        flows=tuple(section.flows),
        core_version=section.core_version,
        has_prefect=found.has_prefect,
    )


def _doubled(sections: Sequence[RuntimeSection]) -> list[str]:
    names = [section.name for section in sections]
    return sorted({name for name in names if names.count(name) > 1})
