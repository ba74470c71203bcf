"""The shape of the source: layers, purity of the core, sizes, and what must never appear.

Everything is read from the syntax trees; nothing is imported but the package's own list of public names.
"""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import perdure

ROOT = Path(perdure.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
LAYERS = ["errors", "core", "codec", "storage", "runtime", "api"]
EDGES = {"cli", "testing", "web", "ai", "integrations"}
#: Modules at the root: public doors, which may show what lies behind them.
DOORS = {"", "events", "logs", "redactions", "secrets"}


def module_of(path: Path) -> str:
    """`core.loop` for src/perdure/core/loop.py; the package itself is the empty name."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


MODULES = {module_of(path): path for path in FILES}


@functools.cache
def tree_of(name: str) -> ast.Module:
    """Its syntax: read when a test asks for it, as every test process imports this file."""
    return ast.parse(MODULES[name].read_text())


def imported(name: str) -> Iterator[str]:
    """Modules of this package that a module imports, TYPE_CHECKING or not, in functions or not."""
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == "perdure" or alias.name.startswith("perdure."):
                    yield alias.name.removeprefix("perdure").removeprefix(".")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            if node.module == "perdure" or (node.module or "").startswith("perdure."):
                base = (node.module or "").removeprefix("perdure").removeprefix(".")
                for alias in node.names:
                    inner = f"{base}.{alias.name}" if base else alias.name
                    yield inner if inner in MODULES else base


def foreign(name: str) -> set[str]:
    """Top-level names of all other modules that a module imports."""
    found: set[str] = set()
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found - {"perdure", "__future__"}


def taken_from(name: str, other: str) -> set[str]:
    """What a module takes from another one; that one's own name if it takes all of it."""
    found: set[str] = set()
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name == other}
        elif isinstance(node, ast.ImportFrom) and node.module == other:
            found |= {alias.name for alias in node.names}
    return found


def layer(name: str) -> str:
    return name.partition(".")[0]


def of_each(names: list[str]) -> Callable[[Callable[[str], None]], Callable[[], None]]:
    """Make one test of a check of many modules, which tells of all that fail."""

    def test_of(check: Callable[[str], None]) -> Callable[[], None]:
        def test() -> None:
            wrong = []
            for name in names:
                try:
                    check(name)
                except AssertionError as error:
                    wrong.append(f"{name}: {error}")
            assert not wrong, "\n".join(wrong)

        return test

    return test_of


def test_every_module_belongs_to_a_layer() -> None:
    assert {layer(name) for name in MODULES} - DOORS <= {*LAYERS, *EDGES}


@of_each(sorted(name for name in MODULES if layer(name) not in DOORS))
def test_imports_point_only_down(name: str) -> None:
    here = layer(name)
    for other in imported(name):
        there = layer(other)
        if there == here:
            continue
        if here in EDGES:
            assert there not in EDGES, f"{name} imports {other}: edges are strangers to each other"
        else:
            assert there not in DOORS, (
                f"{name} imports a public door: import the module that defines the name"
            )
            assert there in LAYERS, f"{name} imports {other}: that is above it"
            assert LAYERS.index(there) < LAYERS.index(here), f"{name} imports {other}: that is above it"


def test_no_imports_go_in_circles() -> None:
    graph = {name: {other for other in imported(name) if other != name} for name in MODULES}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*path, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


@of_each(sorted(name for name in MODULES if layer(name) == "core"))
def test_the_core_has_no_clock_threads_files_or_network(name: str) -> None:
    banned = {
        "time",
        "threading",
        "socket",
        "subprocess",
        "selectors",
        "concurrent",
        "pathlib",
        "io",
        "secrets",
    }
    banned |= {"apsw", "sqlite3", "psycopg", "http", "urllib", "tempfile", "shutil", "signal", "uuid"}
    if name != "core.mismatch":  # which shortens paths
        banned.add("os")
    if name == "core.generators":  # which asks in which thread the garbage collector is at work
        banned.remove("threading")
        assert taken_from(name, "threading") == {"get_ident"}
    assert not foreign(name) & banned
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "random":
                assert node.attr == "Random", f"{name} uses the process's random numbers"
            if node.value.id == "os":
                assert node.attr in {"path", "sep", "__file__"}, f"{name} touches the system"
            if node.value.id in {"datetime", "date"}:
                assert node.attr not in {"now", "utcnow", "today"}, f"{name} reads a clock"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "input", "print"}, f"{name} does I/O"


@of_each(sorted(MODULES))
def test_a_module_tells_its_story_and_stays_small(name: str) -> None:
    story = ast.get_docstring(tree_of(name))
    assert story, f"{name} has no docstring"
    assert (lines := len(MODULES[name].read_text().splitlines())) < 400, f"{name} has {lines} lines"
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length < 70, f"{name}.{node.name} has {length} lines"


@of_each(sorted(MODULES))
def test_nothing_is_unpickled_or_evaluated(name: str) -> None:
    assert not foreign(name) & {"pickle", "marshal", "shelve", "dill", "cloudpickle", "code", "codeop"}
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "compile", "__import__"}, f"{name}:{node.lineno}"


@of_each(sorted(MODULES))
def test_nothing_is_left_to_do(name: str) -> None:
    left = re.findall(r"\b(?:TODO|FIXME|XXX|HACK)\b", MODULES[name].read_text())
    assert not left


def test_the_public_names_are_sorted_and_complete() -> None:
    public = list(perdure.__all__)
    assert public == sorted(public)
    for name in public:
        assert getattr(perdure, name) is not None
    assert set(public) <= set(dir(perdure))
    bound = {alias.name for node in imports_of_names(tree_of("").body) for alias in node.names}
    assert bound - set(public) == set(), "imported by the package, and not public"
    assert not hasattr(perdure, "nonsense")


def test_what_is_imported_when_it_is_used_is_what_checkers_of_types_see() -> None:
    """The package says it twice: in imports for them, in a table for programs."""
    hidden = [node for node in tree_of("").body if isinstance(node, ast.If)]
    (block,) = (node for node in hidden if ast.unparse(node.test) == "_typing.TYPE_CHECKING")
    seen = {
        alias.name: "" if node.module == "perdure" else (node.module or "").removeprefix("perdure.")
        for node in imports_of_names(block.body)
        for alias in node.names
    }
    # That module says which package is missing.
    assert perdure._MODULE_OF == {**seen, "HttpClient": "web"}


def imports_of_names(body: list[ast.stmt]) -> Iterator[ast.ImportFrom]:
    return (node for node in body if isinstance(node, ast.ImportFrom))


def test_the_errors_docstring_draws_every_class_once() -> None:
    drawn = ast.get_docstring(tree_of("errors"))
    assert drawn
    defined = [
        node.name
        for name in MODULES
        if layer(name) == "errors"
        for node in tree_of(name).body
        if isinstance(node, ast.ClassDef)
    ]
    for name in defined:
        assert len(re.findall(rf"\b{name}\b", drawn)) >= 1, f"{name} isn't in the tree"
    assert list(perdure.errors.__all__) == sorted(defined)


def test_errors_are_named_by_their_package_wherever_they_are_defined() -> None:
    for name in perdure.errors.__all__:
        assert getattr(perdure.errors, name).__module__ == "perdure.errors", "histories hold this name"


def test_modules_of_the_tests_have_names_of_their_own() -> None:
    """Their folders are all on the path: of two with one name, one hides the other."""
    files = [path for path in Path(__file__).parent.rglob("*.py") if path.name != "conftest.py"]
    counts = Counter(path.name for path in files if not (path.parent / "__init__.py").exists())
    assert [name for name, count in counts.items() if count > 1] == []
