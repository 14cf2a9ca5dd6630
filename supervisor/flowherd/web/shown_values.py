"""Parameters as a page shows them: JSON, with the values of names that sound like secrets replaced by dots.

The rules for names and passwords within URLs are those by which the runner masks a run's output
(docs/reference/masking.md). What `runs.mask` and `runs.unmask` of an agent say is not known here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flowherd_runner.contract.secret_names import SECRET_NAME, URL_PASSWORD

#: What stands in place of a secret.
DOTS = "••••"
#: Depth to which a value is looked through; what is deeper is not shown.
_MAX_DEPTH = 20


def is_secret_name(name: str) -> bool:
    """Return whether a value of this name is never shown."""
    return SECRET_NAME.search(name) is not None


def masked(name: str, value: Any) -> Any:
    """Return `value` with every secret in it replaced by dots; all of it if its own name is one of a secret."""
    return _masked(name, value, 0)


def _masked(name: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if is_secret_name(name) or depth > _MAX_DEPTH:
        return DOTS
    if isinstance(value, Mapping):
        return {key: _masked(str(key), item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(name, item, depth + 1) for item in value]
    return masked_text(value) if isinstance(value, str) else value


def masked_text(text: str) -> str:
    """Return the text with the passwords of its URLs replaced by dots."""
    return URL_PASSWORD.sub(lambda found: found[0].replace(f":{found[1]}@", f":{DOTS}@"), text)


def shown_value(name: str, value: Any) -> tuple[str, bool]:
    """Return a value as JSON text without its secrets, and whether it has any."""
    shown = masked(name, value)
    return (shown if shown == DOTS else json.dumps(shown, ensure_ascii=False, default=str)), shown != value
