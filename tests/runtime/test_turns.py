"""The watchdog of turns: what it takes for code that never awaits."""

from __future__ import annotations

from perdure.runtime.turns import LOOKS, Sightings


def test_a_turn_is_suspicious_when_it_was_seen_again_and_again() -> None:
    """A process that was stopped, or got no processor, finds its turn old at first sight: that says nothing."""
    sightings = Sightings()
    assert [sightings.often(1.0) for _ in range(LOOKS)] == [False] * (LOOKS - 1) + [True]
    assert sightings.often(1.0)


def test_another_turn_begins_anew() -> None:
    sightings = Sightings()
    for turn in range(3):
        assert not any(sightings.often(float(turn)) for _ in range(LOOKS - 1))
