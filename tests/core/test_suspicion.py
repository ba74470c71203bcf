"""Who of those suspected of killing their workers is tried now, and for how long."""

from __future__ import annotations

from perdure.core.suspicion import PATIENCE, tried_together, window


def test_many_are_tried_together_at_first_then_few() -> None:
    def tried(deaths: int, most: int = 1000) -> int:
        return len(tried_together([(run, deaths, "q") for run in range(100)], {}, most))

    assert [tried(deaths) for deaths in (2, 3, 4, 9)] == [64, 8, 1, 1]
    assert (tried(2, 5), tried(4, 0)) == (5, 0)
    assert tried_together([], {}, 9) == []


def test_the_most_suspected_says_how_many_come_along() -> None:
    assert tried_together([(1, 4, "q"), (2, 2, "q")], {}, 9) == [1]
    assert tried_together([(1, 3, "q"), (2, 2, "q")], {}, 9) == [1, 2]


def test_queues_may_limit_what_a_worker_has() -> None:
    found = [(1, 2, "narrow"), (2, 2, "narrow"), (3, 2, "q"), (4, 2, "full")]
    assert tried_together(found, {"narrow": 1, "full": 0}, 9) == [1, 3]


def test_trials_last_the_longer_the_more_have_died() -> None:
    assert [window(deaths) for deaths in (2, 3, 4, 10)] == [0.25, 0.5, 1.0, 64.0]
    assert window(10_000) == 4096.0
    assert window(4) < PATIENCE
