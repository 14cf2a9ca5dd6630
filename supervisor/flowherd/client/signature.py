"""The parameters of a function, read from the syntax of its file: none of the user's code is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator


def keyword_names(module: ast.Module, function: str) -> list[str] | None:
    """Return the names that `function` can be given as keyword arguments; None if they are not known or it takes any.

    They are not known unless the file binds the name exactly once, by an undecorated `def`.
    """
    found = list(_bindings(module.body, function))
    if len(found) != 1 or not isinstance(found[0], ast.FunctionDef | ast.AsyncFunctionDef) or found[0].decorator_list:
        return None
    arguments = found[0].args
    if arguments.kwarg is not None:
        return None
    return [argument.arg for argument in (*arguments.args, *arguments.kwonlyargs)]


def _bindings(body: list[ast.stmt], name: str) -> Iterator[ast.stmt]:
    """Yield the statements of a module's level that bind the name, or that may."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if statement.name == name:
                yield statement
        elif any(_binds(node, name) for node in ast.walk(statement)):
            if isinstance(statement, ast.If | ast.Try):
                for block in (statement.body, statement.orelse, *_other_blocks(statement)):
                    yield from _bindings(block, name)
            else:
                yield statement


def _other_blocks(statement: ast.If | ast.Try) -> list[list[ast.stmt]]:
    if isinstance(statement, ast.If):
        return []
    return [statement.finalbody, *(handler.body for handler in statement.handlers)]


def _binds(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return node.name == name
    if isinstance(node, ast.alias):
        return (node.asname or node.name) in (name, "*")
    return isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store | ast.Del)
