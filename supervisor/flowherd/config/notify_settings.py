"""The settings of notifications: [notify], [[notify.channels]] and [[notify.rules]]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from flowherd.config.field_types import ApiAddress, SecretSource
from flowherd.config.sections import Field, Section
from flowherd.errors import ConfigurationError
from flowherd.notify.kinds import KindName
from flowherd.notify.rules import Rule, read_rule, unknown_channels

if TYPE_CHECKING:
    from flowherd.notify.delivery import Target

#: The settings that say where a channel leads; each has exactly one of them.
_PLACES = ("command", "webhook", "apprise")
#: The address of a service, or where it is read from; its path is often a secret.
Place = Annotated[str, Field(repr=False, secret=True)]


class NotifyChannel(Section):
    """A place to which notifications go: exactly one of `command`, `webhook` and `apprise`."""

    refuses_unknown = True

    @classmethod
    def read(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and sum(1 for place in _PLACES if value.get(place)) != 1:
            raise ValueError(f"a channel has exactly one of {', '.join(_PLACES)}")
        return value

    name: str = Field(min_length=1, description="Name of the channel, for rules and messages.")
    command: list[str] = Field(
        default=[],
        description="Program with its arguments, which gets each message as JSON on its standard input and exits with "
        "0 once it has taken it.",
    )
    webhook: Place = Field(
        default="", description="URL to which each message is posted as JSON, or file:PATH or env:VARIABLE with it."
    )
    secret: SecretSource | None = Field(
        default=None,
        description="Where the secret is that signs the requests of a webhook: file:PATH or env:VARIABLE. Not set: "
        "they are not signed.",
    )
    apprise: Place = Field(
        default="",
        description="URL of a service as apprise writes it, or file:PATH or env:VARIABLE with it. Needs the extra "
        "flowherd[notify].",
    )
    timeout: float = Field(default=30.0, gt=0, description="How long one delivery may take, seconds.")
    burst: int = Field(default=20, ge=1, description="Number of messages that may be sent at once.")
    pause: float = Field(
        default=60.0,
        ge=0,
        description="Time between two messages after such a burst, seconds; notifications that come meanwhile are sent "
        "together as one message.",
    )


class NotifyRule(Section):
    """Which notifications go to which channels. A rule applies to what matches all of its keys."""

    refuses_unknown = True

    on: list[KindName] = Field(
        description="What is notified: failed, recovered, late, missed, stuck, near-limit, lost, agent-away, disk, "
        "spool, program.",
    )
    flows: list[str] = Field(
        default=[], description="Names of flows; * and ? stand for any characters. Empty: any flow, agent or disk."
    )
    labels: list[str] = Field(
        default=[], description="Labels of which the run or the agent has at least one. Empty: any."
    )
    to: list[str] = Field(default=[], description="Names of channels. Empty: all channels.")
    every_failure: bool = Field(
        default=False,
        description="Notify of each failure of a flow, and not only of the first in a row and of another cause.",
    )


class Notify(Section):
    """Notifications about runs, agents and hosts, which the embedded server sends; beside a Prefect 3 pool the agent
    sends those about its own host."""

    page: ApiAddress = Field(
        default="",
        description="Address at which people reach the server's page, for links; empty: the one on which it listens.",
    )
    after: float = Field(
        default=60.0,
        ge=0,
        description="How long a run must be late, a disk full and so on before it is notified, seconds.",
    )
    channels: list[NotifyChannel] = Field(
        default=[], description="Places to which notifications go, see [[notify.channels]].", repr=False, masked=True
    )
    rules: list[NotifyRule] = Field(
        default=[], description="Which notifications go to which channels, see [[notify.rules]]."
    )

    def checked_rules(self) -> list[Rule]:
        """Return the rules. Raises ConfigurationError if two channels have one name or a rule names one that is not."""
        names = [channel.name for channel in self.channels]
        for name in names:
            if names.count(name) > 1:
                raise ConfigurationError(f"notify.channels: there are two channels {name!r}; give them different names")
        rules = [read_rule(rule.values()) for rule in self.rules]
        for rule in rules:
            if wrong := unknown_channels(rule, names):
                raise ConfigurationError(f"notify.rules: {wrong}")
        return rules

    def targets(self) -> list[Target]:
        """Return the channels, ready to deliver."""
        return [_target(channel) for channel in self.channels]


def _target(settings: NotifyChannel) -> Target:
    # What delivers is imported where something is delivered.
    from flowherd.notify.channels import AppriseChannel, Channel, CommandChannel, WebhookChannel
    from flowherd.notify.delivery import Target
    from flowherd.notify.pace import Rate

    channel: Channel
    if settings.command:
        channel = CommandChannel(command=settings.command, timeout_s=settings.timeout)
    elif settings.webhook:
        channel = WebhookChannel(url=settings.webhook, secret=settings.secret or "", timeout_s=settings.timeout)
    else:
        channel = AppriseChannel(url=settings.apprise, timeout_s=settings.timeout)
    return Target(settings.name, channel, Rate(settings.burst, settings.pause))
