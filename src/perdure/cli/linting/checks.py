"""Looks at a module's workflow code for what the rules name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from perdure.cli.linting.module import Code, Function, Module, local_names
from perdure.cli.linting.names import (
    CLOCK_WITHOUT,
    MUTABLE,
    MUTATORS,
    NAMED,
    PATH_METHODS,
    rule_of,
)
from perdure.cli.linting.rules import BY_CODE
from perdure.cli.linting.sets import Sets

#: Awaitables of Perdure and asyncio that do nothing unless they are awaited.
_NAMES = """
    perdure.sleep perdure.sleep_until perdure.receive perdure.until perdure.poll perdure.map perdure.start
    perdure.ask perdure.ask_approval perdure.event perdure.send asyncio.sleep
    asyncio.wait asyncio.wait_for
"""
_AWAITED = frozenset(_NAMES.split())


_BUILTINS = frozenset({"open", "input", "id", "hash"})


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that was found.

    Attributes:
        line, column: from 1.
        end: the last line of what was found.
    """

    line: int
    column: int
    code: str
    message: str
    end: int


def check(tree: ast.Module) -> list[Finding]:
    """All that is wrong in a module's workflow code."""
    module = Module(tree)
    found: set[Finding] = set()
    for code in module.workflow_code():
        found |= set(_check_code(module, code))
    for function in [*module.steps, *module.workflows]:
        found |= set(_check_signature(module, function))
    return sorted(found)


def _at(node: ast.expr | ast.stmt | ast.excepthandler | ast.arg, code: str, what: str) -> Finding:
    end = node.lineno if isinstance(node, ast.ExceptHandler) else (node.end_lineno or node.lineno)
    return Finding(node.lineno, node.col_offset + 1, code, what, end)


# -- workflow code --------------------------------------------------------------------------------------


def _check_code(module: Module, code: Code) -> Iterator[Finding]:
    function = code.function
    local = local_names(function)
    where = f"in {code.because}"
    for finding in _findings(module, function, local):
        if code.guarded or not BY_CODE[finding.code].guarded:
            yield Finding(
                finding.line, finding.column, finding.code, f"{finding.message} {where}", finding.end
            )


def _findings(module: Module, function: Function, local: set[str]) -> Iterator[Finding]:
    sets = Sets(module, function, local)
    for use in sets.ordered_uses(function):
        yield _at(use, "PDR009", f"the order of the set {_shown(use)} differs between processes")
    outer = _nonlocal_beyond(function)
    for node in module.walk(function):
        match node:
            case ast.Call():
                yield from _check_call(module, node, local)
            case ast.Attribute() | ast.Name() if _means(module, node, local) in NAMED:
                yield _at(node, "PDR008", f"{_means(module, node, local)} is another one on another worker")
            case ast.Expr(value=ast.Call() as call) if _begins_nothing(module, call, local):
                yield _at(call, "PDR011", f"{_shown(call.func)}() isn't awaited, so it never begins")
            case ast.Global() | ast.Nonlocal():
                names = [name for name in node.names if isinstance(node, ast.Global) or name in outer]
                if names and _assigned(function, set(names)):
                    yield _at(node, "PDR010", f"{', '.join(names)} is changed, which all runs share")
            case ast.Assign() | ast.AugAssign() | ast.Delete():
                yield from _check_targets(module, node, local)
            case ast.ExceptHandler():
                if _swallows(module, node):
                    yield _at(node, "PDR014", "the engine's signals and cancellations are swallowed")
            case _:
                pass


def _means(module: Module, node: ast.expr, local: set[str]) -> str:
    """The dotted name of what an expression means, "" if it is something of the function's own."""
    root = node
    while isinstance(root, ast.Attribute):
        root = root.value
    if not isinstance(root, ast.Name) or root.id in local:
        return ""
    if root.id not in module.imports and (root.id in module.globals or root.id in module.functions):
        return ""
    if root.id not in module.imports and (root is not node or root.id not in _BUILTINS):
        return ""
    return module.name(node)


def _check_call(module: Module, call: ast.Call, local: set[str]) -> Iterator[Finding]:
    name = _means(module, call.func, local)
    attribute = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    enough = CLOCK_WITHOUT.get(name)
    if enough is not None and len(call.args) < enough:
        yield _at(call, "PDR001", f"{name}() reads the clock, which differs on replay")
    elif (code := rule_of(name) if name else None) is not None:
        if name in NAMED or any(name.startswith(f"{one}.") for one in NAMED):
            return  # told where it is named
        if code == "PDR004" and name.startswith("httpx.") and "durable_http" in _text_of_imports(module):
            return
        yield _at(call, code, f"{name}(): {_SAID[code]}")
    elif attribute == "run_in_executor":
        yield _at(call, "PDR006", f"run_in_executor(): {_SAID['PDR006']}")
    elif attribute in PATH_METHODS and not call.keywords and isinstance(call.func, ast.Attribute):
        yield _at(call, "PDR004", f".{attribute}(): {_SAID['PDR004']}")
    elif attribute in MUTATORS and isinstance(call.func, ast.Attribute):
        yield from _check_shared(module, call.func.value, call, local)


_SAID = {
    "PDR001": "reads the clock, which differs on replay",
    "PDR002": "gives other random numbers on replay",
    "PDR003": "gives another id on replay",
    "PDR004": "input and output can't be replayed",
    "PDR005": "a process would be started by each replay",
    "PDR006": "threads can't be replayed",
    "PDR007": "blocks all runs of the worker",
    "PDR008": "differs on another worker",
    "PDR015": "differs between processes",
}


def _text_of_imports(module: Module) -> str:
    return " ".join(
        [
            node.attr
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Attribute) and node.attr == "durable_http"
        ]
        + list(module.imports.values())
    )


def _shown(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _begins_nothing(module: Module, call: ast.Call, local: set[str]) -> bool:
    """A call that makes something to be awaited, and nobody does."""
    if isinstance(call.func, ast.Name) and call.func.id not in local:
        own = call.func.id
        if own in module.durable or own in module.coroutines:
            return own not in module.imports
    return _means(module, call.func, local) in _AWAITED


def _swallows(module: Module, handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    broad = any(
        kind is None or module.name(kind) in ("BaseException", "builtins.BaseException") for kind in kinds
    )
    return broad and not any(
        isinstance(node, ast.Raise) for statement in handler.body for node in ast.walk(statement)
    )


# -- shared state ---------------------------------------------------------------------------------------


def _assigned(function: Function, names: set[str]) -> bool:
    return any(
        isinstance(node, ast.Name) and node.id in names and isinstance(node.ctx, ast.Store | ast.Del)
        for node in ast.walk(function)
    )


def _nonlocal_beyond(function: Function) -> set[str]:
    """Names that are declared nonlocal and aren't the function's own: those of a function around it."""
    own: set[str] = set()
    declared: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Nonlocal):
            declared |= set(node.names)
    first = {
        name for statement in function.body if isinstance(statement, ast.Nonlocal) for name in statement.names
    }
    for node in ast.iter_child_nodes(function):
        own |= {
            inner.id
            for inner in ast.walk(node)
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)
        }
    return first | (declared - own)


def _check_targets(
    module: Module, node: ast.Assign | ast.AugAssign | ast.Delete, local: set[str]
) -> Iterator[Finding]:
    targets = [node.target] if isinstance(node, ast.AugAssign) else node.targets
    for target in targets:
        if isinstance(target, ast.Subscript):
            yield from _check_shared(module, target.value, target, local)


def _check_shared(module: Module, owner: ast.expr, node: ast.expr, local: set[str]) -> Iterator[Finding]:
    """Something is changed that may be the module's."""
    if not isinstance(owner, ast.Name) or owner.id in local or owner.id not in module.globals:
        return
    value = module.globals[owner.id]
    made = isinstance(value, ast.Call) and module.name(value.func) in MUTABLE
    if made or isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp):
        yield _at(node, "PDR010", f"{owner.id} is changed, which all runs share")


# -- signatures -----------------------------------------------------------------------------------------


def _check_signature(module: Module, function: Function) -> Iterator[Finding]:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    kind = "step" if module.is_step(function) else "workflow"
    transactional = any(
        module.mark(decorator) == "perdure.step.transactional" for decorator in function.decorator_list
    )
    if transactional and named:
        named = named[1:]  # the connection, which isn't recorded
    for argument in [*named, arguments.vararg, arguments.kwarg]:
        if argument is not None and argument.annotation is None and argument.arg not in ("self", "cls"):
            yield _at(
                argument, "PDR012", f"parameter {argument.arg!r} of {kind} {function.name} has no annotation"
            )
    if function.returns is None and _returns_something(function):
        line, column = function.lineno, function.col_offset + 1
        yield Finding(line, column, "PDR012", f"the result of {kind} {function.name} has no annotation", line)
    for default in [*arguments.defaults, *arguments.kw_defaults]:
        if isinstance(default, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp) or (
            isinstance(default, ast.Call) and module.name(default.func) in MUTABLE
        ):
            yield _at(
                default,
                "PDR013",
                f"the default {_shown(default)} of {kind} {function.name} is shared by all runs",
            )


def _returns_something(function: Function) -> bool:
    return any(isinstance(node, ast.Return) and node.value is not None for node in ast.walk(function))
