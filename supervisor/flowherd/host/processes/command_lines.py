"""Command lines of processes as people may see them: without values that are named like secrets.

They are what `ps` shows to every user of the host, but they are also sent to the server, which keeps those of a run
that ended badly. The values that a run's output is masked by are known to its runner alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flowherd_runner.contract.secret_names import SECRET_NAME, URL_PASSWORD

#: What stands in place of a secret, as in a run's log.
_MASK = "***"


def command_line(words: Sequence[str]) -> str:
    """Return the words with what looks like a secret masked: `--password X`, `TOKEN=X`, `https://user:X@host`."""
    return " ".join(_masked(words))


def _masked(words: Sequence[str]) -> Iterator[str]:
    follows_name = False
    for word in words:
        name, equals, value = word.partition("=")
        if follows_name and not word.startswith("-"):
            yield _MASK
            follows_name = False
            continue
        is_secret = SECRET_NAME.search(name) is not None
        follows_name = is_secret and not equals and word.startswith("-")
        yield f"{name}={_MASK}" if is_secret and value else _without_passwords(word)


def _without_passwords(word: str) -> str:
    return URL_PASSWORD.sub(lambda found: found[0].replace(f":{found[1]}@", f":{_MASK}@"), word)
