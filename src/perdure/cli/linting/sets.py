"""Which expressions of a function are sets whose order differs between processes."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from perdure.cli.linting.module import Function, Module

#: These take a set and don't mind its order.
_ORDERLESS = frozenset(
    {
        "sorted",
        "set",
        "frozenset",
        "len",
        "sum",
        "min",
        "max",
        "any",
        "all",
        "bool",
        "isinstance",
        "asyncio.wait",
        "collections.Counter",
        "repr",
    }
)
#: These go through what they are given, in order, and keep or show it.
_ORDERED = frozenset(
    {
        "list",
        "tuple",
        "iter",
        "enumerate",
        "zip",
        "map",
        "filter",
        "reversed",
        "next",
        "dict.fromkeys",
        "str.join",
        "perdure.map",
        "asyncio.gather",
        "itertools.chain",
        "itertools.batched",
        "itertools.islice",
    }
)
_SET_METHODS = frozenset({"union", "intersection", "difference", "symmetric_difference", "copy"})
_TASKS = frozenset({"create_task", "ensure_future", "start_soon"})
_OPERATORS = (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)


class Sets:
    """What is known of the sets of one function.

    Args:
        shadowed: names that the function binds, so that builtins of that name aren't meant.
    """

    def __init__(self, module: Module, function: Function, shadowed: set[str]) -> None:
        self._module = module
        self._names: set[str] = set()
        arguments = function.args
        for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
            if argument.annotation is not None and _says_set(argument.annotation):
                self._names.add(argument.arg)
        nodes = list(module.walk(function))
        for node in nodes:
            if (
                isinstance(node, ast.AnnAssign)
                and isinstance(node.target, ast.Name)
                and _says_set(node.annotation)
            ):
                self._names.add(node.target.id)
        others = {
            node.target.id
            for node in nodes
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        }
        assigned: dict[str, list[ast.expr]] = {}
        for node in nodes:
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name) and target.id not in others:
                        assigned.setdefault(target.id, []).append(node.value)
        for _ in range(2):  # a set may be made of a set that is assigned further down
            for name, values in assigned.items():
                if all(map(self.is_set, values)):
                    self._names.add(name)

    def is_set(self, node: ast.expr) -> bool:
        """Whether an expression is a set of which the order may differ."""
        match node:
            case ast.Set():
                return not all(_keeps_order(element) for element in node.elts)
            case ast.SetComp():
                return not _keeps_order(node.elt) and not _counts(node)
            case ast.Name():
                return node.id in self._names
            case ast.BinOp(op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor()):
                return self.is_set(node.left) or (
                    self.is_set(node.right) and not isinstance(node.op, ast.Sub)
                )
            case ast.Call(func=ast.Name(id="set" | "frozenset"), args=[given]):
                return not _is_range(given)
            case ast.Call(func=ast.Attribute(value=value, attr=attr)):
                return attr in _SET_METHODS and self.is_set(value)
            case ast.IfExp():
                return self.is_set(node.body) or self.is_set(node.orelse)
            case _:
                return False

    def ordered_uses(self, function: Function) -> Iterator[ast.expr]:
        """Places where the order of a set comes out."""
        unordered = set(self._within_orderless(function))
        for node in self._module.walk(function):
            match node:
                case ast.For() | ast.AsyncFor():
                    if self.is_set(node.iter) and not _only_adds(node.body):
                        yield node.iter
                case ast.ListComp() | ast.GeneratorExp() | ast.DictComp():
                    first = node.generators[0].iter
                    if self.is_set(first) and node not in unordered:
                        yield first
                case ast.Call():
                    yield from self._given(node, node in unordered)
                case ast.List() | ast.Tuple():
                    yield from (
                        element.value
                        for element in node.elts
                        if isinstance(element, ast.Starred) and self.is_set(element.value)
                    )
                case _:
                    pass

    def _given(self, call: ast.Call, unordered: bool) -> Iterator[ast.expr]:
        name = self._module.name(call.func)
        method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        if (
            method == "pop"
            and not call.args
            and isinstance(call.func, ast.Attribute)
            and self.is_set(call.func.value)
        ):
            yield call.func.value
        for argument in call.args:
            if isinstance(argument, ast.Starred):
                if self.is_set(argument.value) and name not in _ORDERLESS and method not in _SET_METHODS:
                    yield argument.value
            elif self.is_set(argument) and not unordered and (name in _ORDERED or method == "join"):
                yield argument

    def _within_orderless(self, function: Function) -> Iterator[ast.AST]:
        """Expressions that are given to what doesn't mind their order."""
        for node in self._module.walk(function):
            if isinstance(node, ast.Call) and self._module.name(node.func) in _ORDERLESS:
                yield from node.args


def _says_set(annotation: ast.expr) -> bool:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            annotation = ast.parse(annotation.value, mode="eval").body
        except SyntaxError:
            return False
    if isinstance(annotation, ast.Name):
        return annotation.id in ("set", "frozenset")
    if isinstance(annotation, ast.Subscript) and _says_set(annotation.value):
        inner = ast.unparse(annotation.slice)
        return inner not in ("int", "bool") and "Task" not in inner and "Future" not in inner
    return False


def _keeps_order(element: ast.expr) -> bool:
    """Numbers and tasks: their hashes are the same in each process."""
    match element:
        case ast.Constant():
            return isinstance(element.value, int | float | bool)
        case ast.Call(func=ast.Attribute(attr=name)) | ast.Call(func=ast.Name(id=name)):
            return name in _TASKS or name in ("int", "len", "ord")
        case _:
            return False


def _counts(node: ast.SetComp) -> bool:
    """A comprehension over a range, whose elements are computed from its numbers."""
    return _is_range(node.generators[0].iter) and isinstance(node.elt, ast.Name | ast.BinOp)


def _is_range(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range"


def _only_adds(body: list[ast.stmt]) -> bool:
    """A loop that only sums up or collects into another set: the order doesn't come out."""
    return all(
        isinstance(statement, ast.AugAssign)
        or (
            isinstance(statement, ast.Expr)
            and isinstance(statement.value, ast.Call)
            and isinstance(statement.value.func, ast.Attribute)
            and statement.value.func.attr in ("add", "discard", "cancel")
        )
        for statement in body
    )
