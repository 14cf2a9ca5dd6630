"""Blocks of Prefect 3: their secret fields are masked in the run's log from the moment at which the run reads them."""

import importlib
from typing import Any, Iterator, List, Mapping, Tuple

from flowherd_runner.record_sender import RecordSender


def mask(sender: RecordSender) -> None:
    """Mask the secret fields of every block document that Prefect's clients read, in flows and in pull steps.

    The clients make one of each answer by `model_validate`.
    """
    document_class: Any = importlib.import_module("prefect.client.schemas.objects").BlockDocument
    validate = document_class.model_validate.__func__

    def masked_validate(cls: Any, *arguments: Any, **options: Any) -> Any:
        document = validate(cls, *arguments, **options)
        for name, value in _secrets_of(document):
            sender.mask(name, value)
        return document

    document_class.model_validate = classmethod(masked_validate)


def _secrets_of(document: Any) -> Iterator[Tuple[str, Any]]:
    """Names and values of the fields that the block's schema marks as secret."""
    fields = getattr(getattr(document, "block_schema", None), "fields", None)
    paths = fields.get("secret_fields") if isinstance(fields, Mapping) else None
    for path in paths or ():
        for value in _at(document.data, str(path).split(".")):
            yield "{}.{}".format(document.name, path), value


def _at(value: Any, path: List[str]) -> Iterator[Any]:
    """What is at a path such as "credentials.*.token"; what is below a field that is named belongs to it."""
    if not path:
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _at(item, path)
    elif isinstance(value, Mapping):
        items = value.values() if path[0] == "*" else [value[path[0]]] if path[0] in value else []
        for item in items:
            yield from _at(item, path[1:])
    elif path == ["*"]:
        yield value
