"""Checks whether notifications can be delivered, and whether some could not."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator, Sequence

from flowherd.backends.discovery import find_api
from flowherd.cli.doctor.finding import Finding, bad, ok, warn
from flowherd.client.connect import connect
from flowherd.config import LoadedSettings
from flowherd.config.notify_settings import NotifyChannel
from flowherd.errors import ConfigurationError, FlowherdError
from flowherd.notify.channels import MISSING_APPRISE, DeliveryFailed, secret_in
from flowherd.notify.file_outbox import DIRECTORY, Kept, read_entries

_CHECK = "notifications"
#: Most undelivered notifications that are counted.
_MOST = 1000
_ADVICE = "correct the channel and restart what sends; `flowherd notify test` tries it"


def check_notifications(loaded: LoadedSettings) -> Iterator[Finding]:
    """Check the channels and rules of the settings, and ask the server, or look into the agent's outbox."""
    notify = loaded.settings.notify
    try:
        notify.checked_rules()
    except ConfigurationError as error:
        yield bad(_CHECK, str(error), "correct the rule, or add the channel")
        return
    problems = [problem for channel in notify.channels for problem in _of_channel(channel)]
    if notify.rules and not notify.channels:
        problems.append("there are rules, but no channels")
    for problem in problems:
        yield warn(_CHECK, problem, _ADVICE)
    undelivered = list(_at_server(loaded) if loaded.settings.backend_name == "graphql" else _in_outbox(loaded))
    yield from undelivered
    if not problems and not undelivered:
        names = ", ".join(channel.name for channel in notify.channels)
        yield ok(_CHECK, f"channels of this host's settings: {names}" if names else "none could not be delivered")


def _of_channel(channel: NotifyChannel) -> Iterator[str]:
    """Return why a channel cannot work, as far as that is seen from here."""
    if channel.command and shutil.which(channel.command[0]) is None:
        yield f"{channel.name}: there is no program {channel.command[0]}"
    if channel.apprise and importlib.util.find_spec("apprise") is None:
        yield f"{channel.name}: {MISSING_APPRISE}"
    for place in filter(None, (channel.webhook, channel.apprise, channel.secret)):
        if place.startswith("env:"):
            continue  # a variable of what sends, and not of this shell
        try:
            secret_in(place)
        except DeliveryFailed as error:
            yield f"{channel.name}: {error}"


def _at_server(loaded: LoadedSettings) -> Iterator[Finding]:
    try:
        api = find_api(loaded)
        if api is None:
            return
        notifications = connect(loaded, api, plain=True).notifications
        found = notifications.undelivered(_MOST) if notifications.are_sent() else []
    except (FlowherdError, ValueError):  # which is a finding of its own
        return
    failures = [(each.channel, each.state == "given up", each.error or "") for each in found]
    yield from _undelivered(failures)


def _in_outbox(loaded: LoadedSettings) -> Iterator[Finding]:
    try:
        kept: Sequence[Kept] = list(read_entries(loaded.paths.state_dir / DIRECTORY))
    except OSError as error:
        yield warn(_CHECK, f"the outbox of notifications cannot be read: {error}", "look at its permissions")
        return
    failed = [each for each in kept if each.waiting.failures]
    yield from _undelivered([(each.channel, each.is_over, each.error) for each in failed])


def _undelivered(failures: Sequence[tuple[str, bool, str]]) -> Iterator[Finding]:
    for channel in dict.fromkeys(channel for channel, _, _ in failures):
        of_channel = [(is_over, error) for name, is_over, error in failures if name == channel]
        given_up = sum(1 for is_over, _ in of_channel if is_over)
        waiting = len(of_channel) - given_up
        counts = [f"{waiting} {'waits' if waiting == 1 else 'wait'} for the next try"] if waiting else []
        counts += [f"{given_up} {'was' if given_up == 1 else 'were'} given up"] if given_up else []
        yield warn(_CHECK, f"to {channel} could not be delivered: {', '.join(counts)}; {of_channel[-1][1]}", _ADVICE)
