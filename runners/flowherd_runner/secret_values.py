"""Which values of a run are secrets: those with a name that sounds like one, and passwords within URLs.

Looks at everything by which a secret reaches a run: the variables that it inherits from the agent, those of the agent's
settings, of the flow and of its run config, its parameters, and what the agent marks itself (secret fields of blocks).
"""

import fnmatch
import json
import re
from typing import Any, Iterable, Iterator, List, Mapping, NamedTuple, Sequence, Set, Tuple

from flowherd_runner.contract.secret_names import SECRET_NAME, URL_PASSWORD

#: Shorter values would mask ordinary text.
_LEAST_CHARS = 6
_LEAST_DIGITS = 8
_NUMBER = re.compile(r"[+-]?[0-9]{0,8}[.,]?[0-9]{0,8}")
#: Switches, and names of environments and branches: words of every log.
_COMMON_WORDS = re.compile(
    r"(?:"
    r"true|false|yes|no|on|off|none|null|undefined|default|enabled|disabled|required|optional|production|"
    r"preproduction|pre-production|pre-prod|preprod|nonprod|non-prod|prod|main|master|trunk|develop|"
    r"development|dev|test|testing|tests|stage|staging|stg|release|releases|live|local|localhost|sandbox|"
    r"demo|preview|canary|integration|acceptance|uat|qa|ci|nightly|latest|stable|beta|alpha|edge|head|"
    r"hotfix|bugfix"
    r")",
    re.IGNORECASE,
)
#: The password of "user:password".
_PAIR_PASSWORD = re.compile(r"[^\s:/]+:(\S+)")
#: Depth to which parameters are looked through.
_MAX_DEPTH = 20


class Secrets(NamedTuple):
    """What is masked in a run's output."""

    #: Names of variables and parameters with a masked value, sorted.
    names: Tuple[str, ...]
    values: Tuple[str, ...]


class Rules(NamedTuple):
    """Names that the settings `runs.mask` and `runs.unmask` choose; they may contain * and ?."""

    mask: Sequence[str] = ()
    unmask: Sequence[str] = ()


def find_secrets(variables: Mapping[str, str], parameters: object, declared: Iterable[str], rules: Rules) -> Secrets:
    """Return what is to be masked; `declared` are names of secret variables, whatever they sound like."""
    names: Set[str] = set()
    values: Set[str] = set()
    known = frozenset(declared)
    for name, value in [*variables.items(), *leaves(parameters)]:
        found = secrets_in(name, value, name in known, rules)
        if found:
            names.add(name)
            values.update(found)
    return Secrets(tuple(sorted(names)), tuple(sorted(values)))


def worth_masking(values: Iterable[str]) -> List[str]:
    """Return the values, and their lines, that are not too common to be masked."""
    return [part for value in values for part in _parts(value) if not _is_common(part)]


def _parts(value: str) -> List[str]:
    """The value, and each of its lines, with and without the blanks around it, which programs strip."""
    whole = [value, *value.splitlines()]
    return list(dict.fromkeys([*whole, *(part.strip() for part in whole)]))


def secrets_in(name: str, value: str, declared: bool, rules: Rules) -> List[str]:
    """Return what is to be masked of one value; `declared` when it is a secret whatever its name sounds like."""
    if rules.mask and _matches(name, rules.mask):
        return [part for part in _parts(value) if part.strip()]
    if rules.unmask and _matches(name, rules.unmask):
        return []
    passwords = [match.group(1) for match in URL_PASSWORD.finditer(value)]
    if not (declared or SECRET_NAME.search(name)):
        return worth_masking([*passwords, *map(_unquoted, passwords)]) if passwords else []
    pair = _PAIR_PASSWORD.fullmatch(value)
    passwords += [pair.group(1)] if pair else []
    return worth_masking([value, *passwords, *map(_unquoted, passwords), *_within_json(value)])


def _within_json(value: str) -> Iterator[str]:
    """The secrets in a value that is a JSON object, such as the key file of a service account."""
    if not value.lstrip().startswith("{"):
        return
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        return
    for name, leaf in leaves(document):
        if SECRET_NAME.search(name):
            yield leaf


def leaves(value: Any, name: str = "", depth: int = 0) -> Iterator[Tuple[str, str]]:
    """The texts and numbers in `value`, each with the name that is nearest to it, or an outer one that is secret."""
    if isinstance(value, Mapping) and depth < _MAX_DEPTH:
        for key, item in value.items():
            yield from leaves(item, name if name and SECRET_NAME.search(name) else str(key), depth + 1)
    elif isinstance(value, (list, tuple)) and depth < _MAX_DEPTH:
        for item in value:
            yield from leaves(item, name, depth + 1)
    elif isinstance(value, str):
        yield name, value
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield name, str(value)


def secret_texts(value: Any) -> List[str]:
    """Return the texts of a value that is a secret: those with names of secrets, or all when none has such a name."""
    texts = list(leaves(value))
    return [text for name, text in texts if SECRET_NAME.search(name)] or [text for _, text in texts]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name.upper(), pattern.upper()) for pattern in patterns)


def _is_common(value: str) -> bool:
    text = value.strip()
    if len(text) < _LEAST_CHARS or _COMMON_WORDS.fullmatch(text) or text.startswith("-----"):
        return True
    return bool(_NUMBER.fullmatch(text)) and sum(character.isdigit() for character in text) < _LEAST_DIGITS


def _unquoted(text: str) -> str:
    """`text` with its %XX replaced, as a program gets it from a URL."""
    data = re.sub(
        rb"%([0-9A-Fa-f]{2})", lambda found: bytes([int(found.group(1), 16)]), text.encode("utf-8", "replace")
    )
    return data.decode("utf-8", "replace")


def masked_notice(names: Sequence[str], most: int = 30) -> str:
    """Return the line of the run's log that says what is masked in it."""
    listed = ", ".join(names[:most]) + (" and {} more".format(len(names) - most) if len(names) > most else "")
    return "values of these are replaced by *** in this log: {}".format(listed)
