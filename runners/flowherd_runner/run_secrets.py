"""What one run has that must not be read in its log: reads its secrets, and says what is masked."""

import os
from typing import List, NamedTuple, Optional, Sequence, Set, Tuple

from flowherd_runner.agent_secrets import agent_secrets
from flowherd_runner.contract.spec import RunSpec
from flowherd_runner.journal_writer import JournalWriter
from flowherd_runner.kinds.definition import NotStarted
from flowherd_runner.masking import Mask
from flowherd_runner.osapi import environment
from flowherd_runner.secret_sources import Sources, read_sources
from flowherd_runner.secret_values import Rules, Secrets, find_secrets, masked_notice, secrets_in, worth_masking

#: How the notice names what has no name in the run.
_AGENTS_OWN = "the agent's own credentials"


class PreparedSpec(NamedTuple):
    """A spec with the variables that were read for it."""

    spec: RunSpec
    #: Names of the secrets among its variables that were declared as such.
    declared: Tuple[str, ...]
    #: Why the run cannot be started; None when all could be read.
    refusal: Optional[str]


def prepare(spec: RunSpec) -> PreparedSpec:
    """Read the run's secrets and files of variables into the variables of its spec, in memory only."""
    refusal: Optional[str] = None
    try:
        unseen = (*spec.isolation.covered, *spec.isolation.hide)
        sources = read_sources(spec.secrets, spec.env_files, os.environ, unseen)
    except NotStarted as error:
        sources, refusal = Sources({}, {}), str(error)
    env = {**sources.from_files, **spec.env, **sources.secrets}
    return PreparedSpec(spec._replace(env=env), (*spec.masked_env, *sources.secrets), refusal)


def secrets_of(prepared: PreparedSpec) -> Secrets:
    """Return what is to be masked in the output of the run."""
    spec = prepared.spec
    parameters = [spec.parameters, spec.engine_parameters, _parameters_at_server(spec)]
    found = find_secrets({**environment(), **spec.env}, parameters, prepared.declared, Rules(spec.mask, spec.unmask))
    own = worth_masking(agent_secrets())
    names: List[str] = [*found.names, *([_AGENTS_OWN] if own else [])]
    return Secrets(tuple(names), (*found.values, *own))


class RunSecrets:
    """Masks the secrets of one run, those that it has from the beginning and those that it reads later."""

    def __init__(self, mask: Mask, journal: JournalWriter, rules: Rules) -> None:
        self._mask = mask
        self._journal = journal
        self._rules = rules
        self._names: Set[str] = set()

    def begin(self, prepared: PreparedSpec) -> None:
        """Mask what the run has from the beginning."""
        secrets = secrets_of(prepared)
        self._mask.add(secrets.values)
        self._note(secrets.names)

    def found(self, name: str, value: str) -> None:
        """Mask a secret that the run has read: from Prefect's server, from a block, from a file of settings."""
        values = [one for one in secrets_in(name, value, True, self._rules) if self._mask.text(one) == one]
        if values:
            self._mask.add(values)
            self._note([name])

    def _note(self, names: Sequence[str]) -> None:
        new = [name for name in names if name not in self._names]
        self._names.update(new)
        if new:
            self._journal.notice(masked_notice(new), warning=False)


def _parameters_at_server(spec: RunSpec) -> object:
    """The parameters in the flow run as Prefect 3's server has answered it; nothing for other kinds."""
    flow_run = spec.target.get("flow_run")
    return flow_run.get("parameters") if isinstance(flow_run, dict) else None
