"""The parameters of a function, read from the syntax of its file: none of the user's code is run."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flowherd.client.annotations import type_of_annotation
from flowherd.parameter_types import Parameter, is_short_scalar, kind_of


def keyword_names(module: ast.Module, function: str) -> list[str] | None:
    """Return the names that `function` can be given as keyword arguments; None if they are not known or it takes any.

    They are not known unless the file binds the name exactly once, by an undecorated `def`.
    """
    found = _arguments(module, function)
    return None if found is None or found.kwarg is not None else [each.arg for each in (*found.args, *found.kwonlyargs)]


def signature_of(module: ast.Module, function: str) -> list[Parameter]:
    """Return the parameters that `function` can be given as keyword arguments, with their types; none if not known."""
    found = _arguments(module, function)
    if found is None:
        return []
    last = [*found.posonlyargs, *found.args][len(found.posonlyargs) + len(found.args) - len(found.defaults) :]
    by_place = {argument.arg: default for argument, default in zip(last, found.defaults, strict=True)}
    by_name = {
        argument.arg: default
        for argument, default in zip(found.kwonlyargs, found.kw_defaults, strict=True)
        if default is not None
    }
    defaults = {**by_place, **by_name}
    return [_parameter(argument, defaults.get(argument.arg)) for argument in (*found.args, *found.kwonlyargs)]


def signature_from(rows: Sequence[Mapping[str, Any]]) -> list[Parameter]:
    """Return the parameters of a function that was imported, from what the child side found (without_runner.py)."""
    return [
        parameter_of(
            row["name"],
            row["annotation"],
            required=row["required"],
            has_default="default" in row,
            default=row.get("default"),
        )
        for row in rows
    ]


def parameter_of(name: str, annotation: str, *, required: bool, has_default: bool, default: Any) -> Parameter:
    """Return a parameter by the text of its annotation; if that is empty, its default tells the type."""
    kind, choices = type_of_annotation(annotation) if annotation else (kind_of(default), ())
    return Parameter(name=name, kind=kind, choices=choices, required=required, has_default=has_default, default=default)


def _parameter(argument: ast.arg, default: ast.expr | None) -> Parameter:
    annotation = "" if argument.annotation is None else ast.unparse(argument.annotation)
    value: Any = None
    has_default = False
    if default is not None:
        with contextlib.suppress(ValueError, TypeError, RecursionError, MemoryError):
            value = ast.literal_eval(default)
            has_default = is_short_scalar(value)
    return parameter_of(
        argument.arg,
        annotation,
        required=default is None,
        has_default=has_default,
        default=value if has_default else None,
    )


def _arguments(module: ast.Module, function: str) -> ast.arguments | None:
    """Return the arguments of the only statement that binds the name; None if that is no undecorated `def`."""
    found = list(_bindings(module.body, function))
    if len(found) != 1 or not isinstance(found[0], ast.FunctionDef | ast.AsyncFunctionDef) or found[0].decorator_list:
        return None
    return found[0].args


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
