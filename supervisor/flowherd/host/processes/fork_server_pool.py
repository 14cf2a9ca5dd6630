"""The fork servers of one agent: one per runtime, started when needed, renewed when stale, ended when not used."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from loguru import logger

from flowherd.errors import AgentStopping
from flowherd.host.processes.fork_server import END_TIMEOUT_S, ForkServer
from flowherd.host.processes.set_aside import MAX_OWN_ENVIRONMENTS, OWN_ENVIRONMENT_IDLE_S, SetAside
from flowherd.host.processes.unnamed_file import unnamed_file
from flowherd.values import Runtime
from flowherd_runner.contract.variables import IMPORT_ENVIRONMENT_VARIABLE

#: Number of fork servers that may end while they import their modules; the next one is started without modules.
_MAX_FAILED_STARTS = 2


class ForkServers:
    """One fork server per runtime, started when it is first needed and again after it has died.

    If importing the modules ends the process, they are not preloaded: each run imports them itself, which is slower,
    and fails alone.

    One that has loaded a file which has changed is set aside for a fresh one. Those of a particular environment are set
    aside when they are not used, or when there are too many.

    `env` is the environment that the environments of the runs are derived from. `of_all_runs` are variables that every
    run will have; they are set while the modules are imported. `secrets` are credentials of the agent, which the runs'
    output must not show, and which no fork server has in memory. `spares` is the number of spare runners of each fork
    server in use, which are in cgroups below `cgroups`.
    """

    def __init__(
        self,
        directory: Path,
        env: Mapping[str, str],
        of_all_runs: Mapping[str, str] | None = None,
        secrets: Sequence[str] = (),
        spares: int = 0,
        cgroups: Path | None = None,
    ) -> None:
        self._directory = directory
        self._spares = spares
        self._cgroups = cgroups
        #: The environment of a fork server of no particular environment.
        self.base_env = env
        self._env = {**env, IMPORT_ENVIRONMENT_VARIABLE: json.dumps(dict(of_all_runs))} if of_all_runs else env
        self._credentials = unnamed_file(json.dumps(list(secrets)).encode()) if secrets else None
        self._lock = threading.Lock()
        self._closing = False
        self._servers: dict[Runtime, ForkServer] = {}
        #: Number of fork servers of a runtime that ended before they were ready.
        self._failed_starts: Counter[Runtime] = Counter()
        self._set_aside = SetAside()
        self._reported: set[str] = set()

    def get(self, runtime: Runtime) -> ForkServer:
        """Return the fork server of `runtime`, perhaps still importing.

        Raises DeployError if it cannot be started, AgentStopping after `begin_closing`.
        """
        with self._lock:
            if self._closing:
                raise AgentStopping("the agent is stopping")
            server = self._servers.get(runtime)
            if server is not None and not server.alive:
                self._clean_up(server)
            if self._failed_starts[runtime] >= _MAX_FAILED_STARTS and runtime.preload:
                runtime = replace(runtime, preload=())
                server = self._servers.get(runtime)
            changed = server.changed_file if server is not None else None
            if server is None or not server.alive or changed is not None:
                server = self._start(runtime)
                if changed is not None:
                    logger.info(
                        "Started a fresh fork server (pid {}) for {}: {} has changed",
                        server.pid, runtime.interpreter, changed,
                    )  # fmt: skip
            server.used_s = time.monotonic()
            return server

    def _start(self, runtime: Runtime) -> ForkServer:
        """Start the fork server of `runtime`, and set aside the one that there is and those that are too many."""
        fd = None if self._credentials is None else self._credentials.fileno()
        server = ForkServer(runtime, self._env, self._log_file(), self._reported, self._spares, self._cgroups, fd)
        replaced = self._servers.get(runtime)
        if replaced is not None and replaced.alive:
            self._set_aside.add(replaced)
        self._servers[runtime] = server
        logger.debug("Started the fork server (pid {}) for {}", server.pid, runtime)
        own = sorted((one for one in self._servers.values() if one.runtime.environment), key=lambda one: one.used_s)
        for one in own[: max(0, len(own) - MAX_OWN_ENVIRONMENTS)]:
            self._set_aside.add(self._servers.pop(one.runtime))
        return server

    def keep_only(self, runtimes: Iterable[Runtime]) -> None:
        """Set aside all of no particular environment except these; a run that needs another starts it again."""
        kept = set(runtimes)
        with self._lock:
            for runtime in [one for one in self._servers if not one.environment and one not in kept]:
                self._set_aside.add(self._servers.pop(runtime))

    def end_idle(self) -> None:
        """End those that were set aside and are idle; set aside those of a particular environment that are not used."""
        with self._lock:
            for runtime, server in list(self._servers.items()):
                if runtime.environment and server.idle_s >= OWN_ENVIRONMENT_IDLE_S:
                    self._set_aside.add(self._servers.pop(runtime))
            self._set_aside.end_idle()

    def _clean_up(self, server: ForkServer) -> None:
        logger.warning("The fork server (pid {}) has ended; starting another", server.pid)
        server.close()
        runtime = server.runtime
        self._failed_starts[runtime] = 0 if server.was_ready else self._failed_starts[runtime] + 1
        if self._failed_starts[runtime] == _MAX_FAILED_STARTS and runtime.preload:
            modules = ", ".join(runtime.preload)
            logger.error("{} ends while importing {}; each run now imports them itself", runtime.interpreter, modules)

    def preloading(self) -> list[dict[str, Any]]:
        """Return what is being imported now, one object for each fork server that is not ready."""
        found = [server.preloading.figures() for server in list(self._servers.values()) if server.alive]
        return [figures for figures in found if figures is not None]

    def pids(self) -> list[int]:
        """Return the pids of all fork servers that live, also of those that are no longer asked for new runs."""
        servers = (*list(self._servers.values()), *self._set_aside.servers)
        return [server.pid for server in servers if server.alive]

    def begin_closing(self) -> None:
        """Start no more fork servers, and end all waits for those that are still importing."""
        self._closing = True
        for server in [*self._servers.values(), *self._set_aside.servers]:
            server.give_up_importing()

    def close(self) -> None:
        """End all fork servers, which together have a moment for it. The runners continue."""
        self.begin_closing()
        with self._lock:
            deadline_s = time.monotonic() + END_TIMEOUT_S
            servers = [*self._servers.values(), *self._set_aside.servers]
            for server in servers:
                server.begin_closing()
            for server in servers:
                server.close(max(0.0, deadline_s - time.monotonic()))
            self._servers.clear()
            self._set_aside.servers.clear()
            if self._credentials is not None:
                self._credentials.close()

    def _log_file(self) -> Path:
        """Return the first file of output that no living fork server has."""
        used = {server.log_file for server in [*self._servers.values(), *self._set_aside.servers] if server.alive}
        names = (self._directory / f"fork-server-{number}.log" for number in itertools.count())
        return next(path for path in names if path not in used)
