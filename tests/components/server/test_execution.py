"""GraphQL requests to the generated schema: selections, number of queries, and refusals before anything is read."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from graphql import get_introspection_query
from sqlalchemy import event, insert, select
from sqlalchemy.exc import OperationalError

from flowherd_server.call import Caller
from flowherd_server.graphql.execution import Answer, execute
from flowherd_server.graphql.loader import Budget
from flowherd_server.graphql.turns import Turns
from flowherd_server.service import SCHEMA, RequestContext, ServerCore
from flowherd_server.store.database import Database
from flowherd_server.store.tables import PROJECT, TENANT
from tests.support.server_core import core_of


@pytest.fixture
def service(database: Database) -> Any:
    with database.writing() as connection:
        tenant = connection.execute(select(TENANT.c.id)).scalar_one()
        rows = [{"id": f"p{n}", "tenant_id": tenant, "name": f"project {n}", "created": n} for n in range(20)]
        connection.execute(insert(PROJECT), rows)
    return core_of(database)


def ask(service: Any, text: str, variables: dict[str, Any] | None = None) -> Answer:
    # The server's own method, on an object that has its database but needs no event loop.
    status, pieces = ServerCore.answer(service, text, variables, None, Caller())
    return Answer(status, json.loads(b"".join(pieces)))


def data(service: Any, text: str, variables: dict[str, Any] | None = None) -> Any:
    answer = ask(service, text, variables)
    assert (answer.status, list(answer.body)) == (200, ["data"]), answer
    return answer.body["data"]


def test_nested_relationships_take_one_query_for_each_level_and_not_for_each_row(service: Any) -> None:
    statements: list[str] = []
    event.listen(
        service.database._readers,
        "before_cursor_execute",
        lambda _c, _cur, statement, *_rest: statements.append(statement),
    )
    found = data(
        service,
        "{ project { name tenant { name projects { name flows { id } } } flows_aggregate { aggregate { count } } } }",
    )
    assert len(found["project"]) == 20
    assert len(found["project"][7]["tenant"]["projects"]) == 20
    assert len([s for s in statements if s.startswith("SELECT")]) == 5


def test_aliases_fragments_and_directives_are_supported(service: Any) -> None:
    text = """
    query($yes: Boolean!, $no: Boolean!) {
      few: project(limit: 1) { ...names tenant { slug } tenant { name } hidden: created @skip(if: $yes) }
      one: project(limit: 1, offset: 3) { called: name ... on project { again: name } none: id @include(if: $no) }
    }
    fragment names on project { name first: flows(limit: 1) { id } all: flows { id } }
    """
    assert data(service, text, {"yes": True, "no": False}) == {
        "few": [{"name": "project 0", "first": [], "all": [], "tenant": {"slug": "default", "name": "default"}}],
        "one": [{"called": "project 3", "again": "project 3"}],
    }


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("{ project(order_by: {created: desc, name: asc}, limit: 1) { name } }", None),
        (
            "query($o: [project_order_by!]) { project(order_by: $o, limit: 1) { name } }",
            {"o": {"created": "desc", "name": "asc"}},
        ),
        ("query($o: [project_order_by!] = {created: desc}) { project(order_by: $o, limit: 1) { name } }", None),
        ("query($d: order_by = desc) { project(order_by: [{created: $d}], limit: 1) { name } }", None),
    ],
)
def test_order_by_may_be_one_object_or_a_list_in_the_text_or_a_variable(
    service: Any, text: str, variables: Any
) -> None:
    assert data(service, text, variables) == {"project": [{"name": "project 19"}]}


@pytest.mark.parametrize("order_by", [{"tenant_id": "asc", "created": "desc"}, {"created": "desc", "tenant_id": "asc"}])
def test_the_first_key_of_order_by_is_the_most_significant_one_in_variables_too(
    service: Any, order_by: dict[str, str]
) -> None:
    """GraphQL input objects have no order, but the dialect's clients rely on the order in which they write the keys."""
    text = "query($o: [project_order_by!]) { project(order_by: $o, limit: 1) { name } }"
    assert data(service, text, {"o": order_by}) == {"project": [{"name": "project 19"}]}
    name_first = {"name": "asc", **order_by}
    assert data(service, text, {"o": name_first}) == {"project": [{"name": "project 0"}]}


def test_null_arguments_count_as_not_given(service: Any) -> None:
    text = "{ project(where: null, order_by: null, distinct_on: null, limit: null, offset: null) { id } }"
    assert len(data(service, text)["project"]) == 20


def test_by_pk_is_one_object_or_null(service: Any) -> None:
    tenant = data(service, "{ tenant { id } }")["tenant"][0]["id"]
    assert data(service, f'{{ tenant_by_pk(id: "{tenant}") {{ slug }} }}') == {"tenant_by_pk": {"slug": "default"}}
    unknown = "00000000-0000-0000-0000-000000000000"
    assert data(service, f'{{ tenant_by_pk(id: "{unknown}") {{ slug }} }}') == {"tenant_by_pk": None}


def test_aggregates_count_with_all_arguments(service: Any) -> None:
    text = '{ project_aggregate(where: {name: {_like: "%1%"}}) { aggregate { count } } }'
    assert data(service, text) == {"project_aggregate": {"aggregate": {"count": 11}}}


def test_rows_beside_a_description_of_the_schema_are_the_same_as_alone(service: Any) -> None:
    fields = "__typename id created tenant { __typename projects_aggregate { aggregate { count max { created } } } }"
    rows = f"project(limit: 3, order_by: {{created: asc}}) {{ {fields} }}"
    alone, beside = data(service, f"{{ {rows} }}"), data(service, f"{{ {rows} __schema {{ queryType {{ name }} }} }}")
    assert beside["__schema"] == {"queryType": {"name": "Query"}}
    assert beside["project"] == alone["project"]
    assert alone["project"][1]["created"] == "1970-01-01T00:00:00.000001+00:00"
    assert alone["project"][1]["__typename"] == "project"
    aggregate = alone["project"][1]["tenant"]["projects_aggregate"]["aggregate"]
    assert aggregate == {"count": 20, "max": {"created": "1970-01-01T00:00:00.000019+00:00"}}


def test_names_of_types_can_be_asked_for_everywhere(service: Any) -> None:
    text = "{ project_aggregate { __typename aggregate { __typename max { __typename } } nodes { __typename } } }"
    found = data(service, text)["project_aggregate"]
    assert found["__typename"] == "project_aggregate"
    assert found["aggregate"] == {"__typename": "project_aggregate_fields", "max": {"__typename": "project_max_fields"}}
    assert found["nodes"] == [{"__typename": "project"}] * 20


def test_rows_without_any_field_are_empty_objects(service: Any) -> None:
    assert data(service, "{ project(limit: 2) { id @skip(if: true) } }")["project"] == [{}, {}]


def test_a_long_answer_is_read_and_written_in_pieces(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "{ hello a: project(order_by: {created: asc}) { id tenant { name } } b: project(limit: 1) { id } }"
    in_one = ServerCore.answer(service, text, None, None, Caller())
    for module in ("loader", "encoding"):
        monkeypatch.setattr(f"flowherd_server.graphql.{module}.PIECE_ROWS", 3)
    status, pieces = ServerCore.answer(service, text, None, None, Caller())
    assert len(pieces) > 7
    assert (status, [b"".join(pieces)]) == in_one


def test_large_answers_are_made_one_at_a_time() -> None:
    turns, made = Turns(), threading.Event()

    def make() -> None:
        with turns.turn() as second:
            second.next_piece()
            made.set()

    other = threading.Thread(target=make)
    with turns.turn() as first:
        first.next_piece()
        other.start()
        first.next_piece()
        assert not made.wait(0.05)
    other.join(20)
    assert made.is_set()


def test_the_schema_can_be_introspected(service: Any) -> None:
    found = data(service, get_introspection_query())
    assert {"flow_run", "flow_run_bool_exp", "create_flow_run_input"} <= {t["name"] for t in found["__schema"]["types"]}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{ project { ", "GRAPHQL_PARSE_FAILED"),
        ("", "GRAPHQL_PARSE_FAILED"),
        ("{ " * 50_000, "BAD_USER_INPUT"),
        ("{ project { nothing } }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ project(where: {name: {_eq: 3}}) { id } }", "GRAPHQL_VALIDATION_FAILED"),
        ('{ project(where: {id: {_eq: "no uuid"}}) { id } }', "GRAPHQL_VALIDATION_FAILED"),
        ('{ project(where: {created: {_gt: "noon"}}) { id } }', "GRAPHQL_VALIDATION_FAILED"),
        ('mutation { create_project(input: {name: "x", color: "red"}) { id } }', "GRAPHQL_VALIDATION_FAILED"),
        ("query a { hello } query b { hello }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ project { ...loop } } fragment loop on project { ...loop }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ " + "tenant { projects { " * 7 + "id" + " } }" * 7 + " }", "GRAPHQL_VALIDATION_FAILED"),
        (
            "{ ...d0 } " + "".join(f"fragment d{n} on Query {{ ...d{n + 1} ...d{n + 1} }} " for n in range(40)),
            "GRAPHQL_VALIDATION_FAILED",
        ),
    ],
)
def test_an_invalid_request_is_400_with_graphql_errors(service: Any, text: str, code: str) -> None:
    answer = ask(service, text)
    assert answer.status == 400
    assert "data" not in answer.body
    assert answer.body["errors"][0]["message"]
    assert answer.body["errors"][0]["extensions"]["code"] in (code, "GRAPHQL_PARSE_FAILED")


def test_variables_of_the_wrong_type_are_400(service: Any) -> None:
    answer = ask(service, "query($n: Int) { project(limit: $n) { id } }", {"n": "many"})
    assert (answer.status, answer.body["errors"][0]["extensions"]["code"]) == (400, "BAD_USER_INPUT")


def test_a_field_that_cannot_be_answered_is_null_and_the_others_are_answered(service: Any) -> None:
    answer = ask(service, "{ project(limit: -3) { id } hello }")
    assert answer.status == 200
    assert answer.body["data"] == {"project": None, "hello": "hello"}
    assert answer.body["errors"][0]["path"] == ["project"]
    assert answer.body["errors"][0]["extensions"] == {"code": "BAD_USER_INPUT"}


@pytest.mark.parametrize("left", [Budget(rows=30), Budget(characters=1200)])
def test_a_too_large_answer_is_refused_with_the_arguments_that_make_it_smaller(service: Any, left: Budget) -> None:
    text = "{ a: project { name tenant_id } b: project { name tenant_id } }"
    with Turns().turn() as turn:
        answer = execute(SCHEMA, text, None, None, RequestContext(service, Caller(), {}, turn, budget=left))
    assert len(answer.body["data"]["a"]) == 20
    assert answer.body["data"]["b"] is None
    assert "limit and offset" in answer.body["errors"][0]["message"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{" + " ".join(f"a{n}: project {{ id }}" for n in range(201)) + "}", "201 fields at its top"),
        ("{ project {" + " ".join(f"a{n}: id" for n in range(2000)) + "} }", "2001 fields; 2000"),
        (
            "query { ...A } fragment A on Query {"
            + " ".join(f"a{n}: project {{ ...B }}" for n in range(100))
            + "} fragment B on project {"
            + " ".join(f"b{n}: id" for n in range(100))
            + "}",
            "10100 fields; 2000",
        ),
    ],
    ids=["at the top", "below", "by fragments"],
)
def test_a_request_with_too_many_fields_is_refused_before_anything_is_read(service: Any, text: str, said: str) -> None:
    answer = ask(service, text)
    assert answer.status == 400
    assert said in answer.body["errors"][0]["message"]


def test_a_statement_that_takes_too_long_is_ended(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowherd_server.store.database.STATEMENT_S", 0.05)
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(OperationalError, match="interrupted"), service.database.reading() as connection:
        connection.exec_driver_sql(endless).scalar()
    assert len(data(service, "{ project { id } }")["project"]) == 20


def test_many_statements_that_take_too_long_together_are_ended(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowherd_server.store.database.TRANSACTION_S", 0.05)
    counting = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 100000) SELECT count(*) FROM n"
    with pytest.raises(OperationalError, match="interrupted"), service.database.reading() as connection:
        for _ in range(1000):
            connection.exec_driver_sql(counting).scalar()


def test_a_query_that_takes_too_long_is_refused_with_what_makes_it_shorter(
    service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowherd_server.store.database.STATEMENT_S", 0.0)
    monkeypatch.setattr("flowherd_server.store.database._INSTRUCTIONS", 100)
    with closing(Database(tmp_path / "test.sqlite")) as database:
        service = core_of(database)
        answer = ask(service, "{ project { id name } }")
    error = answer.body["errors"][0]
    assert error["extensions"]["code"] == "BAD_USER_INPUT"  # not a temporary failure, which clients repeat
    assert "ask for less" in error["message"]


def test_errors_of_the_database_are_reported_as_temporary(service: Any) -> None:
    """The dialect's clients repeat a request if the answer contains API_ERROR."""
    with service.database.writing() as connection:
        connection.exec_driver_sql("DROP TABLE edge")
    error = ask(service, "{ edge { id } }").body["errors"][0]
    assert error["extensions"]["code"] == "API_ERROR"
    assert "API_ERROR" in error["message"]


def test_an_unexpected_error_is_reported_without_details(service: Any) -> None:
    with service.database.writing() as connection:
        connection.exec_driver_sql("UPDATE tenant SET created = 'secret'")
    error = ask(service, "{ tenant { created } }").body["errors"][0]
    assert error["extensions"]["code"] == "INTERNAL_SERVER_ERROR"
    assert "secret" not in str(error)
