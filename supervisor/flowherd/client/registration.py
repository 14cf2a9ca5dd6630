"""`Client.register`: a flow from what a program says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowherd.client.flows import RegisteredFlow
    from flowherd.client.user_client import UserClient


class Registration:
    """The part of `Client` that registers flows."""

    connection: UserClient

    def register(
        self,
        name: str,
        *,
        python: str | None = None,
        command: Sequence[str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        labels: Sequence[str] = (),
        any_host: bool = False,
        env: Mapping[str, str] | None = None,
        env_files: Sequence[str] | None = None,
        secrets: Mapping[str, str] | None = None,
        working_dir: str | Path | None = None,
        interpreter: str | None = None,
        preload: Sequence[str] | None = None,
        limits: Mapping[str, float | int] | None = None,
        weights: Mapping[str, float | str] | None = None,
        grace_s: float | None = None,
        user: str | None = None,
        isolation: str | Mapping[str, Any] | None = None,
        log_level: str | None = None,
        cron: str | None = None,
        interval_s: float | None = None,
        timezone: str | None = None,
        until: datetime | None = None,
        rules: Mapping[str, Any] | None = None,
        project: str = "default",
    ) -> RegisteredFlow:
        """Register a flow, or the next version of one, and return it; the project is created if it is missing.

        It is `python` code, "module:function", "path/file.py:function" or "path/file.py", or a `command` with its
        arguments. `parameters` are defaults. Its runs have this host's name as a label unless `any_host`, and what the
        other arguments give them; `limits` has run_time_s, memory_bytes, processes, open_files and cpu_time_s,
        `weights` cpu, nice, io and oom_score_adj, and `secrets` names sources, "file:PATH" or "env:VARIABLE". A
        schedule is a `cron` expression in a `timezone`, by default this host's, or an interval in seconds; `until` is
        its end. `rules` are those of flow_rules.py by name, such as {"overlap": "skip", "max_running": 2, "retries": 3,
        "retry_delay_s": 30}; catch_up is "last" by default.
        `isolation` is a level, or an object with level, network, if_missing, write and hide, as in isolation/levels.py.

        Raises InvalidRequest for what is not possible, NotFound for a file or function that does not exist.
        """
        from flowherd.client import new_flow  # a command that registers nothing needs none of it

        storage = new_flow.storage_of(python, command)
        schedule = new_flow.schedule_from_now(cron, interval_s, timezone, until)
        how = new_flow.how_to_run(
            storage,
            labels,
            any_host=any_host,
            env=env,
            env_files=env_files,
            secrets=secrets,
            working_dir=working_dir,
            interpreter=interpreter,
            preload=preload,
            limits=limits,
            weights=weights,
            grace_s=grace_s,
            user=user,
            isolation=isolation,
            log_level=log_level,
        )
        own_clocks = schedule is not None and self.connection.follows_own_clocks()
        follows = self.connection.follows_rules()
        more = new_flow.rules_of(rules, self.connection.address, follows=follows)
        document = new_flow.document_of(name, storage, how, parameters or {}, schedule, own_clocks=own_clocks)
        return self.register_document({**document, **more}, project=project)

    def register_document(self, document: Mapping[str, Any], *, project: str = "default") -> RegisteredFlow:
        """Register a flow by its document, as the dialect has it, and return it."""
        flows = self.connection.flows
        return flows.register(flows.ensure_project(project), document)
