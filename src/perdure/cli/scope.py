"""`--namespace`: which namespace of the database a command works in, by PERDURE_NAMESPACE if it isn't given.

The commands that look at runs or change them have it, all in the same way: it is added here to whichever takes a
database, but to those that are about the database as a whole.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Annotated, Any

import typer

from perdure.cli.signatures import with_signature

#: The namespace that the command which is executing is bound to.
bound: ContextVar[str | None] = ContextVar("perdure_namespace", default=None)

VARIABLE = "PERDURE_NAMESPACE"

#: Commands about the whole database, or about the code that drives whatever is in it.
_WHOLE = frozenset(
    {"backup", "check", "debug", "demo", "export", "import_", "init", "move", "restore", "verify", "worker"}
)


def with_namespaces(app: typer.Typer) -> None:
    """Let the commands of an application, and of those within it, have the option."""
    for command in app.registered_commands:
        if command.callback is not None and _works_within(command.callback):
            command.callback = _with_option(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            with_namespaces(group.typer_instance)


def _works_within(function: Callable[..., Any]) -> bool:
    return function.__name__ not in _WHOLE and "url" in inspect.signature(function).parameters


def _with_option(function: Callable[..., Any]) -> Callable[..., Any]:
    names = ["--namespace"] if _has(function, "-n") else ["--namespace", "-n"]
    option = Annotated[
        str | None,
        typer.Option(
            *names, envvar=VARIABLE, help="Work in this namespace of the database.", show_default=False
        ),
    ]

    @functools.wraps(function)
    def command(namespace: str | None = None, **given: Any) -> Any:
        token = bound.set(namespace or None)
        try:
            return function(**given)
        finally:
            bound.reset(token)

    signature = inspect.signature(function, eval_str=True)
    added = inspect.Parameter("namespace", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
    return with_signature(command, signature, [*signature.parameters.values(), added])


def _has(function: Callable[..., Any], flag: str) -> bool:
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        for told in getattr(parameter.annotation, "__metadata__", ()):
            if flag in (getattr(told, "param_decls", None) or ()):
                return True
    return False
