"""The text of the sections that switch flowherd's plugins on, made from the template in conf/."""

from __future__ import annotations

import shlex
from pathlib import Path

from flowherd.supervisord.service_files import Service, supervisord_text, template

_LISTENER = ("-m", "flowherd.supervisord.event_listener")


def plugin_sections(socket: Path, service: Service, *, are_on: bool, line: str, interpreter: str) -> str:
    """Return the sections beside that of an agent with this control socket, as comments unless they are on.

    `line` is the command that makes the plugins importable for `interpreter`; empty if they are, or if it is not known
    which that is, and then `interpreter` is empty too. Raises ConfigurationError for what the format cannot express.
    """
    if line:
        importable = f"That needs one line first,\n; for {interpreter}:\n;   {line}"
    elif interpreter:
        importable = f"It is\n; {interpreter}, and can."
    else:
        importable = "No supervisord was found here, so this was not tried."
    return template("supervisord-plugins.conf").substitute(
        off="" if are_on else ";",
        importable=importable,
        socket=supervisord_text(str(socket)),
        # Of two groups with one name supervisord starts only one, without a word.
        listener=f"{service.name}-listener",
        # Not in supervisord's Python, but in that of the agent.
        listener_command=supervisord_text(shlex.join([*service.argv[:1], *_LISTENER, str(socket.parent)])),
    )
