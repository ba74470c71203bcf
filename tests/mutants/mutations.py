"""The list of mutants: deliberate bugs of the product, each of which the tests have to catch.

A mutant is a few exact texts of the source with what takes their places. The lists are the .toml files beside this
one; a text has to be in its file exactly once, so a list that has gone stale is noticed (test_mutations.py), never
guessed at.
"""

from __future__ import annotations

import functools
import itertools
import os
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType
from typing import NamedTuple

from perdure.storage.sql import load_queries

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

#: The lists, in the order in which they are told of.
LISTS = ("sqlite", "postgres", "storage", "runtime", "core")


class Change(NamedTuple):
    """One text that takes the place of another. `file` is a path below src/perdure."""

    file: str
    old: str
    new: str


class Mutant(NamedTuple):
    """A deliberate bug.

    Attributes:
        list: the name of its list.
        bug: what it does wrong, for people.
        breaks: the guarantee that doesn't hold with it, by its title in docs/guarantees.md.
        tests: what is expected to catch it, the quickest first, as arguments of pytest.
        nets: what else is tried on it; see nets.toml.
    """

    name: str
    list: str
    bug: str
    breaks: str
    changes: tuple[Change, ...]
    tests: tuple[str, ...]
    nets: tuple[str, ...]


class Net(NamedTuple):
    """Tests that were written for no mutant in particular, and of which the table tells which mutants they catch."""

    name: str
    tests: tuple[str, ...]
    lists: tuple[str, ...]


class StaleMutationError(Exception):
    """The source isn't any more what a mutation was written for."""


def mutants() -> list[Mutant]:
    """All of them."""
    return [mutant for name in LISTS for mutant in _in_list(name)]


def _in_list(name: str) -> Iterator[Mutant]:
    document = tomllib.loads((HERE / f"{name}.toml").read_text(encoding="utf-8"))
    for given in document.pop("mutant"):
        changes = given.pop("changes", None) or [{key: given.pop(key) for key in ("file", "old", "new")}]
        yield Mutant(
            list=name,
            name=given.pop("name"),
            bug=given.pop("bug"),
            breaks=given.pop("breaks"),
            changes=tuple(Change(**change) for change in changes),
            tests=tuple(given.pop("tests")),
            nets=tuple(net.name for net in nets() if name in net.lists),
        )
        assert not given, f"what is meant by {sorted(given)}?"
    assert not document, f"what is meant by {sorted(document)}?"


@functools.cache
def nets() -> list[Net]:
    """Those whose tests are there."""
    document = tomllib.loads((HERE / "nets.toml").read_text(encoding="utf-8"))
    found = [Net(name, tuple(net["tests"]), tuple(net["lists"])) for name, net in document.items()]
    return [net for net in found if all((ROOT / file_of(test)).exists() for test in split(net.tests)[0])]


def split(arguments: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Arguments of pytest: the tests, and the options that follow them."""
    tests = tuple(itertools.takewhile(lambda argument: not argument.startswith("-"), arguments))
    return tests, tuple(arguments[len(tests) :])


def file_of(test: str) -> str:
    """The file or folder of a test."""
    return test.partition("::")[0]


def mutated(mutant: Mutant, root: Path = ROOT) -> dict[Path, str]:
    """By file, below `root`, the text that a mutant makes of it.

    Raises:
        StaleMutationError: a text isn't there, or isn't there alone.
    """
    texts: dict[Path, str] = {}
    for change in mutant.changes:
        path = root / "src" / "perdure" / change.file
        text = texts[path] if path in texts else path.read_text(encoding="utf-8")
        if (count := text.count(change.old)) != 1:
            raise StaleMutationError(
                f"mutant {mutant.name}: src/perdure/{change.file} holds its text {count} times instead of once. "
                f"Write it anew in tests/mutants/{mutant.list}.toml, so that the bug is the same:\n{change.old}"
            )
        texts[path] = text.replace(change.old, change.new)
    return texts


class Applied:
    """While it is entered, a copy of the tree has a mutant's bug.

    Args:
        root: of the copy.
        moment: a time for the files' stamps, later than any other of this copy: what Python has compiled of
            the text before mustn't be taken for this one, and stamps are in whole seconds.
    """

    def __init__(self, mutant: Mutant, root: Path, moment: int) -> None:
        self._texts = mutated(mutant, root)
        self._moment = moment

    def __enter__(self) -> None:
        self._before = {path: path.read_text(encoding="utf-8") for path in self._texts}
        self._write(self._texts, self._moment)

    def __exit__(self, *error: object) -> None:
        self._write(self._before, self._moment + 1)

    def _write(self, texts: dict[Path, str], moment: int) -> None:
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
            os.utime(path, (moment, moment))


# -- does it do anything? -----------------------------------------------------------------------------


def differs(path: Path, before: str, after: str, scratch: Path) -> bool:
    """Whether what a file does is another thing now; comments, lines and spaces don't count."""
    if path.suffix == ".py":
        return _deeds(compile(before, str(path), "exec")) != _deeds(compile(after, str(path), "exec"))
    return _queries(before, scratch) != _queries(after, scratch)


def _deeds(code: CodeType) -> tuple[object, ...]:
    """What a piece of bytecode does, without where its source was."""
    constants = tuple(
        _deeds(value) if isinstance(value, CodeType) else repr(value) for value in code.co_consts
    )
    return code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars


def _queries(text: str, scratch: Path) -> dict[str, str]:
    (scratch / "queries.sql").write_text(text, encoding="utf-8")
    return {name: " ".join(query.split()) for name, query in load_queries(scratch).items()}
