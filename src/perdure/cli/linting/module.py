"""Finds the workflow code of a module in its syntax tree: workflows, methods of entities, and what they call there.

Names are followed through imports (`import perdure as p`, `from perdure import workflow as flow`) and no further; the
module isn't imported. What a step does is its own matter, so steps aren't entered.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Code:
    """A function that is workflow code.

    Attributes:
        function: its tree.
        because: the workflow or entity for which it is.
        guarded: that one isn't marked guard=False.
    """

    function: Function
    because: str
    guarded: bool


class Module:
    """A module's syntax tree, and what its names mean.

    Attributes:
        steps, workflows: decorated functions, wherever they are defined.
        entities: decorated classes.
        functions: all functions at the top level, by name.
        globals: names that are assigned at the top level, with what.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.imports: dict[str, str] = {}
        self.steps: list[Function] = []
        self.workflows: list[Function] = []
        self.entities: list[ast.ClassDef] = []
        self.globals: dict[str, ast.expr | None] = {}
        self.functions = {node.name: node for node in tree.body if isinstance(node, _FUNCTIONS)}
        for node in ast.walk(tree):
            self._learn_import(node)
        for node in ast.walk(tree):
            self._learn_decorated(node)
        for node in tree.body:
            self._learn_global(node)
        self.durable = {function.name for function in [*self.steps, *self.workflows]}
        self.coroutines = {
            name for name, function in self.functions.items() if isinstance(function, ast.AsyncFunctionDef)
        }

    def _learn_import(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname:
                    self.imports[alias.asname] = alias.name
                else:
                    top = alias.name.partition(".")[0]
                    self.imports[top] = top
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                self.imports[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def _learn_decorated(self, node: ast.AST) -> None:
        if isinstance(node, _FUNCTIONS):
            marks = set(map(self.mark, node.decorator_list))
            if "perdure.workflow" in marks:
                self.workflows.append(node)
            elif any(mark.startswith("perdure.step") for mark in marks):
                self.steps.append(node)
        elif isinstance(node, ast.ClassDef) and "perdure.entity" in map(self.mark, node.decorator_list):
            self.entities.append(node)

    def _learn_global(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    self.globals[target.id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            self.globals[node.target.id] = node.value

    def mark(self, decorator: ast.expr) -> str:
        """What decorates a function, as a dotted name; "" if it can't be told."""
        return self.name(decorator.func if isinstance(decorator, ast.Call) else decorator)

    def name(self, node: ast.expr) -> str:
        """The full dotted name that an expression means by the imports; a plain name that isn't imported as it is."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        parts.append(self.imports.get(node.id, node.id))
        return ".".join(reversed(parts))

    def is_step(self, function: Function) -> bool:
        """Whether a function is a step's body."""
        return any(function is step for step in self.steps)

    # -- workflow code ------------------------------------------------------------------------------

    def workflow_code(self) -> list[Code]:
        """All functions that are workflow code, each once, in the order of the file."""
        found: dict[Function, Code] = {}
        todo = [
            Code(function, f"workflow {function.name}", self._guarded(function))
            for function in self.workflows
        ]
        for entity in self.entities:
            methods = {node.name: node for node in entity.body if isinstance(node, _FUNCTIONS)}
            todo += [Code(method, f"entity {entity.name}", guarded=True) for method in methods.values()]
        inside = {inner for code in todo for inner in ast.walk(code.function) if inner is not code.function}
        todo = [code for code in todo if code.function not in inside]
        while todo:
            code = todo.pop()
            known = found.get(code.function)
            if known is not None and (known.guarded or not code.guarded):
                continue
            found[code.function] = code
            for called in self._called(code.function):
                todo.append(Code(called, code.because, code.guarded))
        return sorted(found.values(), key=lambda code: code.function.lineno)

    def _guarded(self, workflow: Function) -> bool:
        for decorator in workflow.decorator_list:
            if isinstance(decorator, ast.Call):
                for keyword in decorator.keywords:
                    value = keyword.value
                    if keyword.arg == "guard" and isinstance(value, ast.Constant) and value.value is False:
                        return False
        return True

    def _called(self, function: Function) -> Iterator[Function]:
        """Functions at the top level that this one calls, or hands over to be called."""
        shadowed = local_names(function)
        for node in self.walk(function):
            if not isinstance(node, ast.Call) or self.name(node.func).startswith("perdure.step"):
                continue
            for candidate in (node.func, *node.args, *(keyword.value for keyword in node.keywords)):
                if isinstance(candidate, ast.Name) and candidate.id not in shadowed:
                    called = self.functions.get(candidate.id)
                    if called is not None and not self.is_step(called) and called not in self.workflows:
                        yield called

    def walk(self, function: Function) -> Iterator[ast.AST]:
        """The nodes of a function's body that are workflow code: without the steps that are defined in it."""
        todo: list[ast.AST] = list(reversed(function.body))
        while todo:
            node = todo.pop()
            if isinstance(node, _FUNCTIONS) and self.is_step(node):
                continue
            yield node
            todo.extend(reversed(list(ast.iter_child_nodes(node))))


def local_names(function: Function) -> set[str]:
    """Names that a function, or one in it, binds: parameters, and what is assigned."""
    names = _parameters(function.args)
    declared: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, (*_FUNCTIONS, ast.Lambda)) and node is not function:
            names |= _parameters(node.args)
            names |= {getattr(node, "name", "")}
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
        elif isinstance(node, ast.Global):
            declared |= set(node.names)
    return names - declared


def _parameters(arguments: ast.arguments) -> set[str]:
    every = [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ]
    return {argument.arg for argument in every if argument is not None}
