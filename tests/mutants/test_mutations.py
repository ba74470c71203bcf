"""Every mutant can still be made, and really is a bug; whether it is caught is told by `make mutants`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mutations import (
    LISTS,
    ROOT,
    Change,
    Mutant,
    StaleMutationError,
    differs,
    file_of,
    mutants,
    mutated,
    nets,
    split,
)

from perdure.testing.conformance import CHECKS


@pytest.mark.parametrize("name", LISTS)
def test_every_mutant_can_be_made_and_does_something_else(name: str, tmp_path: Path) -> None:
    for mutant in mutants():
        if mutant.list == name:
            for path, text in mutated(mutant).items():
                assert differs(path, path.read_text(), text, tmp_path), (
                    f"{mutant.name} changes nothing of what is done"
                )


def test_their_names_are_their_own() -> None:
    names = [mutant.name for mutant in mutants()]
    assert len(names) == len(set(names))
    assert len(names) >= 36


def test_what_they_break_is_guaranteed() -> None:
    titles = set(
        re.findall(r"^\| \d+ \| \*\*(.+?)\*\*", (ROOT / "docs" / "guarantees.md").read_text(), re.MULTILINE)
    )
    plain = {re.split(r"[.,]? (?=[A-Z])|\.$", title)[0] for title in titles}
    for mutant in mutants():
        assert any(title.startswith(mutant.breaks) for title in titles), (
            f"{mutant.name}: {mutant.breaks!r} of {plain}"
        )


def test_those_who_are_to_catch_them_are_there() -> None:
    checks = {check.__name__ for check in CHECKS}
    for tests in [*(mutant.tests for mutant in mutants()), *(net.tests for net in nets())]:
        for test in split(tests)[0]:
            path, _, function = test.partition("::")
            assert (ROOT / path).exists(), test
            name, _, parameters = function.partition("[")
            assert not name or f"def {name}(" in (ROOT / path).read_text(), test
            assert name != "test_store_conforms" or parameters.partition("-")[2].rstrip("]") in checks, test


def test_a_text_that_is_gone_or_there_twice_is_noticed() -> None:
    def with_old(old: str) -> Mutant:
        return Mutant("m", "core", "", "", (Change("core/retry.py", old, "x"),), (), ())

    for old in ("no such text", "return"):
        with pytest.raises(StaleMutationError, match=r"core\.toml"):
            mutated(with_old(old))


def test_comments_and_lines_are_no_change(tmp_path: Path) -> None:
    path = Path("x.py")
    assert not differs(path, "a = 1\n", "# why\n\na  =  1\n", tmp_path)
    assert differs(path, "def f():\n    return 1\n", "def f():\n    return 2\n", tmp_path)
    assert differs(path, "def f():\n    return a\n", "def f():\n    return b\n", tmp_path)
    path = Path("x.sql")
    assert not differs(path, "-- name: a\nSELECT 1;\n", "-- name: a\n-- why\nSELECT\n  1;\n", tmp_path)
    assert differs(path, "-- name: a\nSELECT 1;\n", "-- name: a\nSELECT 2;\n", tmp_path)


def test_arguments_are_told_apart() -> None:
    assert split(["a.py", "b.py::test", "-k", "x or y"]) == (("a.py", "b.py::test"), ("-k", "x or y"))
    assert file_of("tests/a.py::test_b[c]") == "tests/a.py"
