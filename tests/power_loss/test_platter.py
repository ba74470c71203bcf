"""What images may and may not show."""

from __future__ import annotations

import random
from collections.abc import Sequence

from perdure.testing.disk import Created, Cut, Deleted, Existed, Operation, Synced, Written
from perdure.testing.powerloss import SECTOR, Directories, Image, Platter

STRICT, JOURNALLED = Directories.STRICT, Directories.JOURNALLED


def drawn(log: Sequence[Operation], directories: Directories = JOURNALLED) -> list[Image]:
    """Many images of the end of a log."""
    platter = Platter(directories)
    for operation in log:
        platter.apply(operation)
    return [platter.image(random.Random(seed)) for seed in range(300)]


def names(images: Sequence[Image]) -> set[frozenset[str]]:
    return {frozenset(image) for image in images}


def test_what_is_synced_is_there() -> None:
    log = [Existed("a", 1, b"old"), Written(1, 0, b"new and longer"), Cut(1, 7), Synced(1, False)]
    assert drawn(log) == [{"a": b"new and"}] * 300


def test_what_isnt_synced_may_be_there_in_any_part() -> None:
    log = [
        Existed("a", 1, b"-" * 4 * SECTOR),
        Written(1, 10, b"x" * 2 * SECTOR),
        Written(1, 3 * SECTOR, b"y"),
    ]
    seen = {image["a"] for image in drawn(log)}
    assert b"-" * 4 * SECTOR in seen
    assert any(b"y" in one and b"x" not in one for one in seen), "in any order"
    assert any(0 < one.count(b"x") < 2 * SECTOR for one in seen), "torn"
    assert any(set(one) - set(b"-xy") for one in seen), "garbled"
    for one in seen:
        assert one[:10] == b"-" * 10, "what is beside a write is left alone"
        assert len(one) == 4 * SECTOR


def test_a_write_beyond_the_end_leaves_a_hole() -> None:
    seen = {image["a"] for image in drawn([Existed("a", 1, b"ab"), Written(1, 4, b"c")])}
    assert {b"ab", b"ab\0\0c"} <= seen


def test_a_file_without_a_sync_of_its_directory_may_be_missing() -> None:
    log: list[Operation] = [Created("a", 1), Written(1, 0, b"x"), Synced(1, False)]
    assert names(drawn(log)) == {frozenset(), frozenset("a")}
    assert drawn(log, STRICT) == [{"a": b"x"}] * 300, "there, a file's sync is one of its own name"
    assert drawn([*log, Created("b", 2), Synced(2, True)])[0] == {"a": b"x", "b": b""}


def test_a_removed_file_may_come_back() -> None:
    log: list[Operation] = [Existed("a", 1, b"x"), Existed("b", 2, b"y"), Deleted("a", 1, False)]
    assert names(drawn(log)) == names(drawn(log, STRICT)) == {frozenset("b"), frozenset("ab")}
    later = [*log, Deleted("b", 2, True)]
    assert drawn(later) == [{}] * 300
    assert names(drawn(later, STRICT)) == {frozenset(), frozenset("a")}


def test_names_change_in_order_on_a_journalling_file_system_only() -> None:
    log: list[Operation] = [Existed("a", 1, b""), Deleted("a", 1, False), Created("b", 2)]
    assert names(drawn(log)) == {frozenset("a"), frozenset(), frozenset("b")}
    assert names(drawn(log, STRICT)) == {frozenset("a"), frozenset(), frozenset("b"), frozenset("ab")}


def test_a_name_that_is_made_anew_is_another_file() -> None:
    log: list[Operation] = [
        Existed("a", 1, b"old"),
        Deleted("a", 1, False),
        Created("a", 2),
        Written(2, 0, b"new"),
    ]
    seen = {image.get("a") for image in drawn(log)}
    assert {b"old", None, b"", b"new"} <= seen
