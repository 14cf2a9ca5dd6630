"""The schema for clients that have the token of one flow run."""

from __future__ import annotations

from functools import cache

from graphql import GraphQLSchema

from flowherd_server.graphql.run_part import RUN_FIELDS, RUN_PART
from flowherd_server.graphql.schema import build_schema
from flowherd_server.mutations import OPERATIONS
from flowherd_server.runs.run_scope import RUN_OPERATIONS


@cache
def run_schema() -> GraphQLSchema:
    """Return the schema; it is made when the first of these clients asks."""
    operations = [operation for operation in OPERATIONS if operation.name in RUN_OPERATIONS]
    return build_schema(operations, RUN_FIELDS, (), RUN_PART)
