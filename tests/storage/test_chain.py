"""The checksum chain: what it is, and what a proof says of each kind of damage."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import pytest

from perdure.storage.chain import TOLD_MAX, Damage, Proof, first_link, link, links, newest_of, origin, over

EVENTS = [b"first", b"", b"\n", b"two\nlines", b"x" * 10_000, b"last"]
CHAINED = list(enumerate(zip(links(origin("r", 1), EVENTS), EVENTS, strict=True), 1))
HEAD = CHAINED[-1][1][0]

Row = tuple[int, int, bytes]


def rows() -> list[Row]:
    return [(seq, its_link, data) for seq, (its_link, data) in CHAINED]


def told(stored: Sequence[Row], *, seq: int = 6, chain: int = HEAD) -> list[tuple[str, int | None]]:
    proof = Proof("r", 1, seq, chain)
    for row in stored:
        proof.feed(*row)
    return [(one.kind.value, one.seq) for one in proof.finish()]


def test_links_go_on_from_each_other() -> None:
    """One event at a time, many at once, or all in one pass: it is the same chain."""
    chain = origin("r", 1)
    for event, (_, (its_link, _)) in zip(EVENTS, CHAINED, strict=True):
        chain = link(chain, event)
        assert chain == its_link
    assert over(origin("r", 1), EVENTS) == HEAD
    assert over(5, []) == 5
    assert links(5, []) == []
    assert first_link("r", 1, b"first") == CHAINED[0][1][0]


def test_the_format_stays_what_it_is() -> None:
    """Databases hold these numbers: other code has to come to the same."""
    assert origin("order-1", 1) == crc32(b"1 order-1")
    assert link(7, b"event") == crc32(b"event\n", 7)
    assert (origin("r", 1), HEAD) == (4050084359, 1802530295)
    assert origin("ä\ud800", 2) != origin("ä", 2), "whatever an id may be"


def test_what_is_sound_is_told_to_be() -> None:
    assert told(rows()) == []


@pytest.mark.parametrize("place", range(6))
def test_which_event_has_changed(place: int) -> None:
    stored = rows()
    seq, its_link, data = stored[place]
    stored[place] = seq, its_link, data + b"!"
    assert told(stored) == [("content", seq)]


@pytest.mark.parametrize("place", range(6))
def test_a_link_that_has_changed_is_told_from_its_event(place: int) -> None:
    stored = rows()
    seq, its_link, data = stored[place]
    stored[place] = seq, its_link ^ 1, data
    assert told(stored) == [("checksum", seq)]


def test_what_is_missing_is_told_by_its_number() -> None:
    assert told(rows()[1:]) == [("missing", 1)]
    assert told([*rows()[:2], *rows()[4:]]) == [("missing", 3)]
    assert told(rows()[:4]) == [("missing", 5)]
    assert told([]) == [("missing", 1)]


def test_what_is_too_much() -> None:
    assert told([*rows(), (7, 1, b"x")]) == [("surplus", 7)]
    assert told([*rows(), (9, 1, b"x")]) == [("surplus", 9)]
    assert told(rows(), seq=5, chain=CHAINED[4][1][0]) == [("surplus", 6)]


def test_a_row_that_does_not_fit_to_its_events() -> None:
    assert told(rows(), chain=HEAD ^ 1) == [("head", None)]
    assert told(rows()[:5], seq=5) == [("head", None)], "cut off with the count"
    proof = Proof("other", 1, 6, HEAD)
    for row in rows():
        proof.feed(*row)
    assert [one.seq for one in proof.finish()] == [1], "the events of another run"


def test_several_events_are_told_each_up_to_a_limit() -> None:
    chained = links(origin("r", 1), [b"e"] * 50)
    stored = [(seq, its_link, b"other") for seq, its_link in enumerate(chained, 1)]
    proof = Proof("r", 1, 50, chained[-1])
    for row in stored:
        proof.feed(*row)
    assert len(proof.finish()) == TOLD_MAX
    assert proof.untold == 50 - TOLD_MAX


def test_the_newest_event_alone() -> None:
    (seq, (its_link, data)), before = CHAINED[-1], CHAINED[-2][1][0]
    assert newest_of("r", 1, seq, its_link, its_link, data, before) == data
    for wrong in (
        newest_of("r", 1, seq, its_link, its_link, data + b"!", before),
        newest_of("r", 1, seq, its_link, None, None, before),
        newest_of("r", 1, seq, its_link, its_link, data, None),
        newest_of("r", 1, seq, its_link ^ 1, its_link, data, before),
        newest_of("other", 1, 1, CHAINED[0][1][0], CHAINED[0][1][0], b"first", None),
    ):
        assert isinstance(wrong, Damage)
    assert newest_of("r", 1, 1, CHAINED[0][1][0], CHAINED[0][1][0], b"first", None) == b"first"
