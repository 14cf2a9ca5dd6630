"""Send the agent's queries as constant texts with variables, so that a server parses and checks each text once.

The types of the variables are those of Prefect's servers (`uuid`, `timestamptz`), as in the queries of Prefect's own
web pages. A server that names them differently refuses the text; it is sent the values inside the text from then on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from flowherd.backends.graphql.literals import literal
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.errors import BackendRefused, NotAuthorized

_VARIABLE = re.compile(r"\$(\w+)")

T = TypeVar("T")


class Question(NamedTuple):
    """A query: what its variables are declared as, as in "$ids: [uuid!]!", and the fields that it asks for."""

    variables: str
    fields: str

    def text(self) -> str:
        """Return the query with its variables."""
        return f"query({self.variables}) {{ {self.fields} }}"

    def with_values(self, values: Mapping[str, Any]) -> str:
        """Return the query with the values of its variables inside."""
        return f"query {{ {_VARIABLE.sub(lambda found: literal(values[found[1]]), self.fields)} }}"


class Questions:
    """Asks one server; remembers whether it takes the variables."""

    def __init__(self, transport: GraphQLTransport) -> None:
        self._transport = transport
        #: None until the first answer.
        self._takes_variables: bool | None = None

    def ask(self, question: Question, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the data of the answer; raises as `GraphQLTransport.execute` does."""
        return self.first_accepted(lambda with_variables: self.ask_once(question, values, with_variables))

    def ask_once(self, question: Question, values: Mapping[str, Any], with_variables: bool) -> dict[str, Any]:
        """Send the question in one of the two ways."""
        if with_variables:
            return self._transport.execute(question.text(), values)
        return self._transport.execute(question.with_values(values))

    def first_accepted(self, send: Callable[[bool], T]) -> T:
        """Return what `send` returns, called with whether to use variables: the way that is known, or True and False.

        Raises what `send` raises; a refusal only if both ways are refused.
        """
        if self._takes_variables is not None:
            return send(self._takes_variables)
        try:
            answer, takes_variables = send(True), True
        except NotAuthorized:
            raise
        except BackendRefused:  # perhaps because of the types of the variables
            answer, takes_variables = send(False), False
        self._takes_variables = takes_variables
        return answer
