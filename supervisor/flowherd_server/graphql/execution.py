"""Executes one GraphQL request, from its text to the answer and HTTP status.

An invalid request is HTTP 400. A valid one that could not be carried out is HTTP 200 with `errors`, and null in place
of the field. The key `errors` is absent on success, because Prefect's clients take its presence for a failure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    execute_sync,
    get_operation_ast,
    parse,
    validate,
)
from loguru import logger
from sqlalchemy.exc import DatabaseError, OperationalError

from flowherd_server import errors
from flowherd_server.errors import DatabaseLost, Refused, errors_answer
from flowherd_server.graphql.unstorable import check_literals, check_storable
from flowherd_server.store.database import STATEMENT_S, TRANSACTION_S, was_interrupted

#: Maximum number of nested levels in a query.
MAX_DEPTH = 12
#: Maximum number of fields in a request, those of fragments counted as often as these are spread. Each field of a query
#: can be a statement of its own.
MAX_FIELDS = 2_000
#: Maximum number of fields at the top of one operation: each reads or changes something of its own.
MAX_ROOT_FIELDS = 200
#: Maximum number of tokens in a request: room for a literal list of some thousand objects. Larger input must be sent as
#: variables.
MAX_TOKENS = 100_000
#: Fields that describe the schema.
_DESCRIPTION = re.compile(r"__(schema|type)\b")
#: Longest request text whose parsed form is cached, characters.
_CACHED_TEXT_LENGTH = 20_000


@dataclass(frozen=True)
class Answer:
    """The answer to send over HTTP."""

    status: int
    body: Mapping[str, Any]


def execute(
    schema: GraphQLSchema, text: str, variables: Mapping[str, Any] | None, operation_name: str | None, context: Any
) -> Answer:
    """Execute one request. Resolvers find `context` as info.context; its method `reading` opens a connection."""
    try:
        document = _document(schema, text)
        if isinstance(document, Answer):
            return document
        operation = get_operation_ast(document, operation_name)
        if operation is None:
            return _bad("the request must name one of its operations", errors.VALIDATION_FAILED)
        if operation.operation is OperationType.MUTATION:
            return _run(schema, document, variables, operation_name, context)
        check_storable("variables", variables)
        if len(text) <= _CACHED_TEXT_LENGTH:
            _check_literals(schema, text)
        else:
            check_literals(document)
        # The description of the schema is only in the whole one.
        reading = schema if _DESCRIPTION.search(text) else schema.extensions["reading"]
        with context.reading():
            return _run(reading, document, variables, operation_name, context)
    except Refused as refused:
        return _bad(str(refused), errors.BAD_USER_INPUT)
    except RecursionError:
        return _bad("the request is nested too deeply", errors.BAD_USER_INPUT)


def is_query(schema: GraphQLSchema, text: str, operation_name: str | None) -> bool:
    """Return whether a request that `execute` would carry out only reads."""
    try:
        document = _document(schema, text)
    except RecursionError:
        return False
    operation = None if isinstance(document, Answer) else get_operation_ast(document, operation_name)
    return operation is not None and operation.operation is not OperationType.MUTATION


def _run(
    schema: GraphQLSchema,
    document: DocumentNode,
    variables: Mapping[str, Any] | None,
    operation_name: str | None,
    context: Any,
) -> Answer:
    result = execute_sync(
        schema, document, context_value=context, variable_values=dict(variables or {}), operation_name=operation_name
    )
    if not result.errors:
        return Answer(200, {"data": result.data})
    errors = [_formatted(error) for error in result.errors]
    if any(error.path is None for error in result.errors):  # variables do not match their types
        return Answer(400, {"errors": errors})
    return Answer(200, {"errors": errors, "data": result.data})


def _document(schema: GraphQLSchema, text: str) -> DocumentNode | Answer:
    # Agents keep sending the same few texts.
    return _cached_check(schema, text) if len(text) <= _CACHED_TEXT_LENGTH else _check(schema, text)


def _check(schema: GraphQLSchema, text: str) -> DocumentNode | Answer:
    try:
        document = parse(text, no_location=False, max_tokens=MAX_TOKENS)
    except GraphQLError as error:
        return Answer(400, {"errors": [_formatted(error, errors.PARSE_FAILED)]})
    refusal = _cost_refusal(document)
    if refusal:
        return _bad(refusal, errors.VALIDATION_FAILED)
    found = validate(schema, document, max_errors=10)
    if found:
        return Answer(400, {"errors": [_formatted(error, errors.VALIDATION_FAILED) for error in found]})
    return document


_cached_check = lru_cache(maxsize=256)(_check)


@lru_cache(maxsize=256)
def _check_literals(schema: GraphQLSchema, text: str) -> None:
    """Raise Refused if a text within a checked request cannot be compared with what is stored; a success is kept."""
    document = _cached_check(schema, text)
    assert isinstance(document, DocumentNode), "checked before"
    check_literals(document)


def _cost_refusal(document: DocumentNode) -> str:
    """Return why a request would cost too much; empty if it would not."""
    cost = _cost(document)
    if cost.depth > MAX_DEPTH:
        return f"the query is {cost.depth} levels deep; {MAX_DEPTH} are allowed"
    if cost.top > MAX_ROOT_FIELDS:
        return f"the request has {cost.top} fields at its top; {MAX_ROOT_FIELDS} are allowed"
    if cost.fields > MAX_FIELDS:
        return f"the request has {cost.fields} fields; {MAX_FIELDS} are allowed"
    return ""


def _bad(message: str, code: str) -> Answer:
    return Answer(400, errors_answer(message, code))


class _Cost(NamedTuple):
    """What a selection asks for."""

    #: Number of nested levels, without introspection, whose usual query is deeper but reads no table.
    depth: int = 0
    #: Number of fields at its top, and of all fields.
    top: int = 0
    fields: int = 0


def _cost(document: DocumentNode) -> _Cost:
    """Return the most that any operation of the document asks for."""
    fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
    # Each fragment is measured once, even if it is spread often; validation refuses one that spreads itself.
    known: dict[str, _Cost] = {}

    def below(node: Any) -> _Cost:
        parts = [of(child) for child in node.selection_set.selections] if node.selection_set else []
        depth = max((part.depth for part in parts), default=0)
        return _Cost(depth, sum(part.top for part in parts), sum(part.fields for part in parts))

    def of(node: Any) -> _Cost:
        if isinstance(node, FieldNode):
            inner = below(node)
            return _Cost(0 if node.name.value.startswith("__") else 1 + inner.depth, 1, 1 + inner.fields)
        if not isinstance(node, FragmentSpreadNode):
            return below(node)
        name = node.name.value
        if name not in known:
            known[name] = _Cost()
            known[name] = below(fragments[name]) if name in fragments else _Cost()
        return known[name]

    costs = [below(d) for d in document.definitions if isinstance(d, OperationDefinitionNode)]
    return _Cost(*map(max, zip(*costs, strict=True))) if costs else _Cost()


def database_error_answer(error: Exception) -> dict[str, Any]:
    """Return the error for a client whose request the database could not carry out now.

    A failed write is logged by the database, once for as long as it lasts.
    """
    reason = error.orig if isinstance(error, DatabaseError) else error
    message = f"API_ERROR: the server's database cannot do this at present: {reason}"
    if isinstance(error, DatabaseError) and not isinstance(error, OperationalError):
        logger.error("the database failed: {}", reason)
    return {"message": message, "extensions": {"code": errors.API_ERROR}}


def _formatted(error: GraphQLError, code: str = errors.BAD_USER_INPUT) -> Mapping[str, Any]:
    """Return the error for the client: our own refusals as they are, unexpected errors without details."""
    original = error.original_error
    if original is None or isinstance(original, (Refused, GraphQLError)):
        answer = dict(error.formatted)
        answer["extensions"] = {"code": code, **(error.extensions or {})}
        return answer
    if isinstance(original, OperationalError) and was_interrupted(original):
        message = (
            f"the query was ended, because a part of it took {STATEMENT_S:.0f} s or all of it {TRANSACTION_S:.0f} s; "
            "ask for less, by a limit or a narrower condition"
        )
        code = errors.BAD_USER_INPUT
    elif isinstance(original, (DatabaseError, DatabaseLost)):
        return {**database_error_answer(original), "path": error.path}
    elif isinstance(original, RecursionError):
        message, code = "the request is nested too deeply", errors.BAD_USER_INPUT
    else:
        logger.opt(exception=original).error("an operation failed with an unexpected error")
        message, code = "Internal server error", errors.INTERNAL
    return {"message": message, "path": error.path, "extensions": {"code": code}}
