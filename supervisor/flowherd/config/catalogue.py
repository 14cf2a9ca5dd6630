"""The list of all settings by dotted name, read off the models in settings.py, and the variables that set them.

One setting is called by one dotted name everywhere: "cloud.agent.name" is [cloud.agent] name in a file and
FLOWHERD__CLOUD__AGENT__NAME in the environment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flowherd.config.settings import Settings

#: The prefixes of environment variables, the stronger one first.
PREFIXES = ("FLOWHERD__", "PREFECT__")
#: Between the parts of a dotted name in an environment variable.
DELIMITER = "__"
#: Behind the variable of a secret setting: the value is the path of a file that holds the secret.
FILE_SUFFIX = "_FILE"


class Shape(Enum):
    """What a setting's value is made of."""

    SCALAR = "scalar"
    LIST = "list"
    MAPPING = "mapping"


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One setting."""

    dotted: str
    shape: Shape
    #: None is a value of it.
    optional: bool
    #: A token: its value is shown to nobody, and it can be given as a file.
    secret: bool
    #: A mapping whose values are shown to nobody.
    masked: bool
    default: Any
    description: str

    def variable(self, prefix: str) -> str:
        """The environment variable that sets it."""
        return prefix + self.dotted.upper().replace(".", DELIMITER)


def _leaf(dotted: str, field: FieldInfo) -> Leaf:
    kinds = {get_origin(kind) or kind for kind in (field.annotation, *get_args(field.annotation))}
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    shape = Shape.LIST if list in kinds else Shape.MAPPING if dict in kinds else Shape.SCALAR
    return Leaf(
        dotted=dotted,
        shape=shape,
        optional=type(None) in kinds,
        secret=bool(extra.get("secret")),
        masked=bool(extra.get("masked")),
        default=field.default,
        description=field.description or "",
    )


def _leaves(model: type[BaseModel], prefix: str = "") -> Iterator[Leaf]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _leaves(kind, f"{prefix}{name}.")
        else:
            yield _leaf(prefix + name, field)


#: Every setting by its dotted name, in the order of settings.py.
LEAVES: dict[str, Leaf] = {leaf.dotted: leaf for leaf in _leaves(Settings)}
#: Every section's dotted name.
SECTIONS = frozenset(name.rpartition(".")[0] for name in LEAVES if "." in name)


def value_of(settings: Settings, dotted: str) -> Any:
    """The value of one setting. Raises AttributeError when there is no such setting."""
    value: Any = settings
    for part in dotted.split("."):
        value = getattr(value, part)
    return value
