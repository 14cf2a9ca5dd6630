"""All engines, and how one is found: by the storage of a flow, by its name, or by a kind of run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowherd.engines.base import Engine, unsupported_storage
from flowherd.engines.plain import PLAIN
from flowherd.engines.prefect1 import PREFECT1
from flowherd.engines.prefect3 import PREFECT3
from flowherd.engines.runtimes import EnginePackage
from flowherd.errors import ConfigurationError, UnsupportedStorage

#: The first that recognises a flow's storage carries it out. Prefect 0.x/1.x recognises any name, so it comes last.
ENGINES: list[Engine] = [PLAIN, PREFECT3, PREFECT1]


def register(engine: Engine) -> None:
    """Add an engine, ahead of all others (experimental).

    Raises ConfigurationError when its name or one of its kinds is taken.
    """
    for other in ENGINES:
        taken = engine.kinds & other.kinds
        if other.name == engine.name or taken:
            what = f"its kinds {sorted(taken)}" if taken else "its name"
            raise ConfigurationError(f"the engine {engine.name!r} cannot be added: {what} is taken by {other.name!r}")
    ENGINES.insert(0, engine)


def engine_for(storage: Mapping[str, Any]) -> Engine:
    """Return the engine that carries out flows with this storage. Raises UnsupportedStorage when there is none."""
    for engine in ENGINES:
        if engine.recognises(storage):
            return engine
    raise UnsupportedStorage(f"{unsupported_storage(storage)}: no process of this host can run it")


def engine_named(name: str) -> Engine:
    """Return the engine that a backend names. Raises ConfigurationError when it is not known."""
    for engine in ENGINES:
        if engine.name == name:
            return engine
    known = ", ".join(sorted(engine.name for engine in ENGINES))
    raise ConfigurationError(f"the backend's runs need the engine {name!r}, which is not known here, only {known}")


def engine_of(kind: str) -> Engine | None:
    """Return the engine that carries out runs of this kind; None if none is known."""
    return next((engine for engine in ENGINES if kind in engine.kinds), None)


def package_of(kind: str) -> EnginePackage | None:
    """Return what an interpreter needs for runs of this kind; None when any Python will do."""
    engine = engine_of(kind)
    return None if engine is None else engine.package
