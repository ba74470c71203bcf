"""Who is admitted: the arithmetic of limits, and of turns."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from perdure.core.places import Place, explain_place
from perdure.core.queues import Head, QueueSettings, after_admitting, free_slots, share
from perdure.core.rates import Rate

NAMES = st.sampled_from(["", *"abcdef"])


@given(
    st.lists(
        st.tuples(NAMES, st.sampled_from(["v", "w"]), st.floats(0, 9)), max_size=12, unique_by=lambda h: h[:2]
    ),
    st.integers(0, 20),
    st.dictionaries(NAMES, st.integers(0, 5)),
    st.none() | st.integers(1, 4),
    st.booleans(),
)
def test_sharing_is_fair_and_keeps_to_limits(
    given_heads: list[tuple[str, str, float]],
    free: int,
    held: dict[str, int],
    per_key: int | None,
    fair: bool,
) -> None:
    heads = [Head(*head) for head in given_heads]
    settings = QueueSettings(per_key=per_key, fairness="key" if fair else None)
    chosen = share(settings, heads, free, held)
    got = Counter[str]()
    for place, number in chosen.items():
        got[heads[place].lane] += number
    assert got.total() <= free
    lanes = {head.lane for head in heads}

    def open_(lane: str) -> bool:
        return per_key is None or not lane or held.get(lane, 0) + got[lane] < per_key

    if got.total() < free:
        assert not any(map(open_, lanes)), "somebody could have had more"
    for lane in lanes:
        if per_key is not None and lane:
            assert got[lane] == 0 or held.get(lane, 0) + got[lane] <= per_key
        for other in lanes:
            if (
                fair and open_(lane) and got[other]
            ):  # nobody got the slot that a lane with fewer should have had
                assert held.get(other, 0) + got[other] - 1 <= held.get(lane, 0) + got[lane]


@given(st.lists(st.floats(0.001, 5.0), min_size=1, max_size=60), st.integers(1, 8), st.data())
def test_no_window_is_exceeded(pauses: list[float], limit: int, data: st.DataObject) -> None:
    settings = QueueSettings(rate=Rate(limit, per=3.0, burst=data.draw(st.integers(1, limit))))
    now, arrival, begun = 1_700_000_000.0, 0, []
    for pause in pauses:
        now += pause
        free, next_at = free_slots(settings, most=5, held=0, owned=0, arrival=arrival, now=now)
        assert (free == 0) == (next_at is not None)
        if next_at is not None:
            assert next_at > now
            again, _ = free_slots(settings, most=5, held=0, owned=0, arrival=arrival, now=next_at)
            assert again >= 1
        arrival = after_admitting(settings, arrival, free, now)
        begun += [now] * free
    for place, first in enumerate(begun):
        assert sum(first <= other < first + 3.0 for other in begun[place:]) <= limit


def test_the_least_of_all_limits_counts() -> None:
    settings = QueueSettings(concurrency=5, per_worker=3)
    assert free_slots(settings, most=9, held=1, owned=1, arrival=0, now=0.0) == (2, None)
    assert free_slots(settings, most=9, held=4, owned=0, arrival=0, now=0.0) == (1, None)
    assert free_slots(settings, most=9, held=7, owned=0, arrival=0, now=0.0) == (0, None)
    assert free_slots(settings, most=1, held=0, owned=0, arrival=0, now=0.0) == (1, None)


def test_where_the_queue_has_no_part_nothing_is_said() -> None:
    place = Place(
        queue="q", paused=False, draining=False, in_line=False, ahead=0, many=False, key=None, held=1, held_by_key=0,
        holders=["a"], parent_holds=False, concurrency=1, per_worker=None, per_key=None, rate=None, next_at=None,
    )  # fmt: skip
    assert explain_place(place) is None
