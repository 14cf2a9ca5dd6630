"""NUL and halves of surrogate pairs are refused as bad input, wherever they stand; only lines of logs are kept."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from graphql import GraphQLEnumType, GraphQLInputObjectType, GraphQLList, GraphQLNonNull, get_named_type

from flowherd_server.mutations import OPERATIONS
from flowherd_server.service import SCHEMA
from tests.support.dialect import Client

BAD = ["a\0b", "half \ud800"]
MUTATIONS = [operation.name for operation in OPERATIONS if operation.name != "write_run_logs"]
_VALUES = {"UUID": str(uuid.uuid4()), "DateTime": "2030-01-01T00:00:00Z", "Int": 1, "Boolean": True, "Float": 1.0}


def fitting(kind: Any) -> Any:
    """A value of an input type, with what it requires."""
    if isinstance(kind, GraphQLNonNull):
        return fitting(kind.of_type)
    if isinstance(kind, GraphQLList):
        return [fitting(kind.of_type)]
    if isinstance(kind, GraphQLInputObjectType):
        return {
            name: fitting(field.type) for name, field in kind.fields.items() if isinstance(field.type, GraphQLNonNull)
        }
    if isinstance(kind, GraphQLEnumType):
        return next(iter(kind.values))
    return _VALUES.get(kind.name, "x")


def with_text(kind: Any, text: str) -> Iterator[Any]:
    """Values of an input type that each have `text` at one place, as a value or a key."""
    if isinstance(kind, GraphQLNonNull):
        yield from with_text(kind.of_type, text)
    elif isinstance(kind, GraphQLList):
        yield from ([value] for value in with_text(kind.of_type, text))
    elif isinstance(kind, GraphQLInputObjectType):
        for name, field in kind.fields.items():
            yield from ({**fitting(kind), name: value} for value in with_text(field.type, text))
    elif kind.name == "String":
        yield text
    elif kind.name == "JSON":
        yield from (text, {"deep": [{"x": text}]}, {text: 1})


def refusal(client: Client, text: str, variables: Any = None) -> dict[str, Any]:
    body = client.answer(text, variables).json()
    assert not any((body.get("data") or {}).values()), body
    return dict(body["errors"][0])


def literal(value: Any) -> str:
    """GraphQL's literal of a value, with NUL and surrogates as escapes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {literal(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    return json.dumps(value)


def has_names_as_keys(value: Any) -> bool:
    """Whether all keys can be written in GraphQL."""
    if isinstance(value, list):
        return all(map(has_names_as_keys, value))
    return not isinstance(value, dict) or all(k.isidentifier() and has_names_as_keys(v) for k, v in value.items())


def test_every_mutation_refuses_them_in_every_text_of_its_input(client: Client) -> None:
    assert SCHEMA.mutation_type is not None
    tried = set()
    for name in MUTATIONS:
        field = SCHEMA.mutation_type.fields[name]
        kind = field.args["input"].type
        payload, inner = next(iter(field.type.fields.items()))  # type: ignore[union-attr]
        of_payload = getattr(get_named_type(inner.type), "fields", {})
        below = f" {{ {next(iter(of_payload))} }}" if of_payload else ""
        for bad in BAD:
            for given in with_text(kind, bad):
                text = f"mutation($input: {kind}) {{ {name}(input: $input) {{ {payload}{below} }} }}"
                error = refusal(client, text, {"input": given})
                assert error["extensions"]["code"] == "BAD_USER_INPUT", (name, given, error)
                assert "which cannot be stored" in error["message"], (name, given, error)
                tried.add(name)
            if has_names_as_keys(given):
                error = refusal(client, f"mutation {{ {name}(input: {literal(given)}) {{ {payload}{below} }} }}")
                assert error["extensions"]["code"] in ("BAD_USER_INPUT", "GRAPHQL_PARSE_FAILED"), (name, error)
    assert {"register_agent", "create_flow", "create_flow_run", "set_flow_run_states", "set_key_value"} <= tried


@pytest.mark.parametrize("bad", BAD)
def test_queries_refuse_them_as_variables_and_as_literals(client: Client, bad: str) -> None:
    by_variable = refusal(client, "query($x: String) { flow(where: {name: {_eq: $x}}) { id } }", {"x": bad})
    assert by_variable["extensions"]["code"] == "BAD_USER_INPUT"
    for text in (
        "{ flow(where: {name: {_eq: %s}}) { id } }",
        "{ secret_value(name: %s) }",
        "{ flow_run(where: {parameters: {_has_key: %s}}) { id } }",
    ):
        error = refusal(client, text % json.dumps(bad))
        assert error["extensions"]["code"] in ("BAD_USER_INPUT", "GRAPHQL_PARSE_FAILED"), error


@pytest.mark.parametrize(
    "body",
    [
        '{"query": "{ hello \\ud800 }"}',
        '{"query": "{ hello }", "operationName": "\\ud800"}',
        '{"query": "query($x: Int) { flow(limit: $x) { id } }", "variables": {"x": "\\ud800"}}',
        '{"query": "{ hello }", "variables": "\\ud800"}',
    ],
)
def test_an_answer_that_quotes_them_is_an_answer(client: Client, body: str) -> None:
    answer = client.server.post("/graphql", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"][0]["message"]


def test_a_line_of_a_log_is_kept_with_them(client: Client) -> None:
    run_id = client.create_run()
    info = {"stream": "log", "x": "\ud800\0"}
    logs = [{"flow_run_id": run_id, "message": "a\0b \ud800", "name": "\0", "info": info}]
    client.do("write_run_logs", logs=logs)
    (line,) = client.run(run_id, "logs { message name info }")["logs"]
    assert (line["message"], line["name"]) == ("a\0b ?", "\0")
    assert line["info"] == info
