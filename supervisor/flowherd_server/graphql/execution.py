"""One GraphQL request from its text to its answer and HTTP status.

A request that is wrong in itself is HTTP 400; one that was understood and could not be carried out is HTTP 200 with
`errors` and null in its field's place. The key `errors` is absent on success: Prefect's clients stumble over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

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
from sqlalchemy.exc import OperationalError

from flowherd_server import errors
from flowherd_server.errors import Refused, errors_answer

MAX_DEPTH = 12
#: A literal list of some thousand objects; more than that is sent as variables.
MAX_TOKENS = 100_000
_CACHED_TEXT_LENGTH = 20_000


@dataclass(frozen=True)
class Answer:
    """What goes back over HTTP."""

    status: int
    body: Mapping[str, Any]


def execute(
    schema: GraphQLSchema, text: str, variables: Mapping[str, Any] | None, operation_name: str | None, context: Any
) -> Answer:
    """The answer to one request. `context` is what resolvers find as info.context; its `reading` opens a connection."""
    try:
        document = _document(schema, text)
        if isinstance(document, Answer):
            return document
        operation = get_operation_ast(document, operation_name)
        if operation is None:
            return _bad("the request must name one of its operations", errors.VALIDATION_FAILED)
        if operation.operation is OperationType.MUTATION:
            return _run(schema, document, variables, operation_name, context)
        with context.reading():
            return _run(schema, document, variables, operation_name, context)
    except RecursionError:
        return _bad("the request is nested too deeply", errors.BAD_USER_INPUT)


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
    if any(error.path is None for error in result.errors):  # variables that do not fit their types
        return Answer(400, {"errors": errors})
    return Answer(200, {"errors": errors, "data": result.data})


def _document(schema: GraphQLSchema, text: str) -> DocumentNode | Answer:
    # Agents send the same few texts again and again.
    return _cached_check(schema, text) if len(text) <= _CACHED_TEXT_LENGTH else _check(schema, text)


def _check(schema: GraphQLSchema, text: str) -> DocumentNode | Answer:
    try:
        document = parse(text, no_location=False, max_tokens=MAX_TOKENS)
    except GraphQLError as error:
        return Answer(400, {"errors": [_formatted(error, errors.PARSE_FAILED)]})
    depth = _depth(document)
    if depth > MAX_DEPTH:
        return _bad(f"the query is {depth} levels deep; {MAX_DEPTH} are allowed", errors.VALIDATION_FAILED)
    found = validate(schema, document, max_errors=10)
    if found:
        return Answer(400, {"errors": [_formatted(error, errors.VALIDATION_FAILED) for error in found]})
    return document


_cached_check = lru_cache(maxsize=256)(_check)


def _bad(message: str, code: str) -> Answer:
    return Answer(400, errors_answer(message, code))


def _depth(document: DocumentNode) -> int:
    """Levels of nested fields. Introspection is left out: its usual query is deeper, and it reads no table."""
    fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
    # Each fragment once, however often it is spread; one that spreads itself is refused by validation.
    known: dict[str, int] = {}

    def below(node: Any) -> int:
        return max((of(child) for child in node.selection_set.selections), default=0) if node.selection_set else 0

    def of(node: Any) -> int:
        if isinstance(node, FieldNode):
            return 0 if node.name.value.startswith("__") else 1 + below(node)
        if not isinstance(node, FragmentSpreadNode):
            return below(node)
        name = node.name.value
        if name not in known:
            known[name] = 0
            known[name] = below(fragments[name]) if name in fragments else 0
        return known[name]

    return max((below(d) for d in document.definitions if isinstance(d, OperationDefinitionNode)), default=0)


def _formatted(error: GraphQLError, code: str = errors.BAD_USER_INPUT) -> Mapping[str, Any]:
    """The error as it is told: our own refusals as they are, everything unexpected without its inside."""
    original = error.original_error
    if original is None or isinstance(original, (Refused, GraphQLError)):
        answer = dict(error.formatted)
        answer["extensions"] = {"code": code, **(error.extensions or {})}
        return answer
    if isinstance(original, OperationalError):
        logger.error("the database refused: {}", original.orig)
        message, code = f"API_ERROR: the server's database cannot do this now: {original.orig}", errors.API_ERROR
    elif isinstance(original, RecursionError):
        message, code = "the request is nested too deeply", errors.BAD_USER_INPUT
    else:
        logger.opt(exception=original).error("an operation failed in a way that nobody foresaw")
        message, code = "Internal server error", errors.INTERNAL
    return {"message": message, "path": error.path, "extensions": {"code": code}}
