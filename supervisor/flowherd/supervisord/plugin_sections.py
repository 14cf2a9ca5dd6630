"""The text of the sections that switch flowherd's plugins on, made from the template in conf/."""

from __future__ import annotations

from pathlib import Path

from flowherd.supervisord.service_files import supervisord_text, template


def plugin_sections(socket: Path, *, are_on: bool, line: str, interpreter: str) -> str:
    """Return the sections, as comments unless they are on.

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
        off="" if are_on else ";", importable=importable, socket=supervisord_text(str(socket))
    )
