"""All backends by name, and the choice of the one that an agent uses.

A backend of this project is registered in BUILT_IN. A backend of another package is registered by an entry point of
the group ENTRY_POINT_GROUP and chosen by the setting agent.backend; this is experimental: the protocol may change with
any version. docs/how-to/add-a-backend.md shows one.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Protocol

from loguru import logger

from flowherd.backends.protocol import Backend
from flowherd.config import LoadedSettings
from flowherd.config.route import facts_of, unverified
from flowherd.errors import ConfigurationError, NoClient

if TYPE_CHECKING:
    import logging

    from flowherd.backends.graphql.agent_client import AgentClient, Contact

#: Entry points of this group name backends of other packages.
ENTRY_POINT_GROUP = "flowherd.backends"


class BackendFactory(Protocol):
    """What is registered under a backend's name."""

    def __call__(self, loaded: LoadedSettings, *, only_look: bool) -> Backend:
        """Return a connection; contact the server no earlier than `connect`.

        With `only_look` nothing must be created or changed at the server, not even by `connect`: `flowherd doctor`
        asks. Raises ConfigurationError if the settings do not suffice.
        """
        ...


# The factories import their packages themselves: an agent loads only the backend that it uses.


def _graphql(loaded: LoadedSettings, *, only_look: bool) -> Backend:
    from flowherd.backends.graphql.open_graphql import open_graphql

    return open_graphql(loaded)


def _prefect3(loaded: LoadedSettings, *, only_look: bool) -> Backend:
    from flowherd.backends.prefect3.open_work_pool import open_work_pool

    return open_work_pool(loaded, only_look=only_look)


def _memory(loaded: LoadedSettings, *, only_look: bool) -> Backend:
    from flowherd.backends.memory import MemoryBackend

    return MemoryBackend()


#: The backends of this project. They cannot be replaced by entry points of the same name.
BUILT_IN: Mapping[str, BackendFactory] = {"graphql": _graphql, "prefect3": _prefect3, "memory": _memory}
#: The engine whose runs each of them hands out: the attribute `engine` of its class, known without loading it.
_ENGINES: Mapping[str, str] = {"graphql": "prefect1", "prefect3": "prefect3", "memory": "plain"}


def open_backend(loaded: LoadedSettings, *, only_look: bool = False) -> Backend:
    """Return the agent's connection to the backend that the settings choose.

    With `only_look` connecting creates and changes nothing at the server. Raises ConfigurationError if there is no
    backend of this name, it cannot be loaded, or it lacks a setting.
    A certificate that is not verified is a warning in the log, at each start of an agent.
    """
    name = loaded.settings.backend_name
    factory = BUILT_IN.get(name) or _load(name, str(loaded.origins["agent.backend"]))
    if not only_look:
        _log_way(loaded)
    return factory(loaded, only_look=only_look)


def open_client(loaded: LoadedSettings, given: Backend | None, contact: Contact, logger: logging.Logger) -> AgentClient:
    """Return the client of an agent with these settings, or with the backend that it was `given`; sends nothing.

    Raises NoClient unless the backend is a server of the GraphQL API.
    """
    from flowherd.backends.graphql.agent_client import AgentClient
    from flowherd.backends.graphql.backend import GraphQLBackend

    name = loaded.settings.backend_name if given is None else type(given).__name__
    if name != "graphql" and not isinstance(given, GraphQLBackend):
        raise NoClient(
            f"this agent has no `client`, because its backend ({name}) does not have the GraphQL API of Prefect 0.x "
            f"and 1.x. Leave out what uses it; the agent's own methods and its logger work with every backend"
        )
    return AgentClient(contact, loaded.settings.cloud.agent.auth_token, logger)


def engine_of(loaded: LoadedSettings) -> str:
    """Return the name of the engine whose runs the backend hands out, also while its API is not known."""
    name = loaded.settings.backend_name
    return _ENGINES[name] if name in _ENGINES else open_backend(loaded, only_look=True).engine


def _log_way(loaded: LoadedSettings) -> None:
    """Log what is in force on the way to the API, and warn if its certificate is not verified."""
    for fact in facts_of(loaded):
        logger.info("The way to the API: {} {} (from {})", fact.what, fact.value, fact.origin)
    if unverified(loaded):
        logger.warning("{}", unverified(loaded))


def _load(name: str, origin: str) -> BackendFactory:
    """Return the factory of a backend of another package."""
    found = set(entry_points(group=ENTRY_POINT_GROUP, name=name))
    if not found:
        known = sorted({*BUILT_IN, *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))})
        raise ConfigurationError(
            f"agent.backend, from {origin}: there is no backend {name!r}; known are {', '.join(known)}. Install the "
            f"package that has it into flowherd's environment; a package names its backends by entry points of the "
            f"group {ENTRY_POINT_GROUP}"
        )
    if len(found) > 1:
        targets = " and ".join(sorted(point.value for point in found))
        raise ConfigurationError(
            f"agent.backend, from {origin}: two packages have a backend {name!r} ({targets}); uninstall one"
        )
    return _loaded(found.pop())


def _loaded(point: EntryPoint) -> BackendFactory:
    try:
        factory: Any = point.load()
    except Exception as error:  # whatever the other package's module raises when it is imported
        raise ConfigurationError(
            f"the backend {point.name!r} cannot be loaded from {point.value}: {type(error).__name__}: {error}"
        ) from error
    if not callable(factory):
        raise ConfigurationError(f"the backend {point.name!r} cannot be loaded: {point.value} is not a function")
    checked: BackendFactory = factory
    return checked
