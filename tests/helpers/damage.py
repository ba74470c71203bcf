"""Damage to stored histories, of every kind we can think of, and raw access to the rows to do it.

A kind is a function from what is stored of two runs to what is stored afterwards; it gives None where it doesn't apply.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import apsw
import psycopg

from perdure.storage.chain import link, links, origin

#: seq, link, data
Event: TypeAlias = tuple[int, int, bytes]


@dataclass(frozen=True)
class Stored:
    """What is stored of a run: its events in order, and what its row says of them."""

    id: str
    generation: int
    seq: int
    chain: int
    events: tuple[Event, ...]

    def with_events(self, events: Sequence[Event]) -> Stored:
        return replace(self, events=tuple(sorted(events)))

    def with_event(self, place: int, event: Event) -> Stored:
        return self.with_events([*self.events[:place], event, *self.events[place + 1 :]])

    def without(self, first: int, last: int) -> Stored:
        return self.with_events([*self.events[:first], *self.events[last:]])


Pair: TypeAlias = tuple[Stored, Stored]
Kind: TypeAlias = Callable[[random.Random, Stored, Stored], Pair | None]


# -- one event --------------------------------------------------------------------------------------------


def _content(rng: random.Random, a: Stored, b: Stored, change: Callable[[bytes], bytes]) -> Pair | None:
    place = rng.randrange(len(a.events))
    seq, its_link, data = a.events[place]
    return a.with_event(place, (seq, its_link, change(data))), b


def flip_bit(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    def change(data: bytes) -> bytes:
        at = rng.randrange(len(data))
        return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]

    return _content(rng, a, b, change)


def blank_bytes(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    """As of a sector that was never written."""

    def change(data: bytes) -> bytes:
        at = rng.randrange(len(data))
        end = min(len(data), at + rng.choice([1, 4, 64, 512]))
        return data[:at] + bytes(end - at) + data[end:]

    return _content(rng, a, b, change)


def another_digit(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    """The event reads as well as before, and says something else."""

    def change(data: bytes) -> bytes:
        digits = [at for at, byte in enumerate(data) if 48 <= byte <= 57]
        if not digits:
            return data
        at = rng.choice(digits)
        other = rng.choice([digit for digit in range(48, 58) if digit != data[at]])
        return data[:at] + bytes([other]) + data[at + 1 :]

    return _content(rng, a, b, change)


def cut_short(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    return _content(rng, a, b, lambda data: data[: rng.randrange(len(data))])


def grown(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    return _content(rng, a, b, lambda data: data + rng.choice([b"\n", b" ", b"\0", b"{}", data]))


def other_neighbour(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    """The last bytes of an event now begin the next one."""
    if len(a.events) < 2:
        return None
    place = rng.randrange(len(a.events) - 1)
    (seq, its_link, data), (next_seq, next_link, next_data) = a.events[place : place + 2]
    cut = rng.randrange(1, len(data)) if len(data) > 1 else 0
    changed = a.with_event(place, (seq, its_link, data[:cut]))
    return changed.with_event(place + 1, (next_seq, next_link, data[cut:] + next_data)), b


def forged(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    """Another event with a link that fits to it."""
    found = another_digit(rng, a, b)
    assert found is not None
    return _relinked(a, found[0], upto=None), b


def forged_to_the_end(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    """... and all links behind it fit, too; but the run's row doesn't."""
    found = another_digit(rng, a, b)
    assert found is not None
    chained = links(origin(a.id, a.generation), [data for _, _, data in found[0].events])
    return a.with_events(
        [(seq, new, data) for new, (seq, _, data) in zip(chained, found[0].events, strict=True)]
    ), b


def _relinked(before: Stored, after: Stored, *, upto: int | None) -> Stored:
    value = origin(before.id, before.generation)
    for place, (old, new) in enumerate(zip(before.events, after.events, strict=True)):
        if old != new:
            seq, _, data = new
            return after.with_event(place, (seq, link(value, data), data))
        value = old[1]
    return after


# -- several events ---------------------------------------------------------------------------------------


def _two(rng: random.Random, a: Stored) -> tuple[int, int] | None:
    if len(a.events) < 2:
        return None
    first, second = sorted(rng.sample(range(len(a.events)), 2))
    return first, second


def swap_contents(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    if (two := _two(rng, a)) is None:
        return None
    (s1, l1, d1), (s2, l2, d2) = (a.events[place] for place in two)
    return a.with_event(two[0], (s1, l1, d2)).with_event(two[1], (s2, l2, d1)), b


def swap_rows(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    if (two := _two(rng, a)) is None:
        return None
    (s1, l1, d1), (s2, l2, d2) = (a.events[place] for place in two)
    return a.with_event(two[0], (s1, l2, d2)).with_event(two[1], (s2, l1, d1)), b


def swap_neighbours(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    if len(a.events) < 2:
        return None
    at = rng.randrange(len(a.events) - 1)
    (s1, l1, d1), (s2, l2, d2) = a.events[at : at + 2]
    return a.with_event(at, (s1, l2, d2)).with_event(at + 1, (s2, l1, d1)), b


def delete_first(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    return a.without(0, 1), b


def delete_in_the_middle(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    if len(a.events) < 3:
        return None
    at = rng.randrange(1, len(a.events) - 1)
    return a.without(at, rng.randrange(at + 1, len(a.events))), b


def delete_and_close_up(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    """Those behind it move up."""
    at = rng.randrange(len(a.events))
    rest = [*a.events[:at], *((seq - 1, its_link, data) for seq, its_link, data in a.events[at + 1 :])]
    return a.with_events(rest), b


def truncate(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    return a.without(rng.randrange(len(a.events)), len(a.events)), b


def truncate_with_the_count(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    if len(a.events) < 2:
        return None
    left = rng.randrange(1, len(a.events))
    return replace(a.without(left, len(a.events)), seq=left), b


def one_more(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    """An event a second time, at the end."""
    _, its_link, data = rng.choice(a.events)
    return a.with_events([*a.events, (a.seq + rng.choice([1, 1, 1, 2, 7]), its_link, data)]), b


def one_more_with_the_count(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    _, its_link, data = rng.choice(a.events)
    return replace(a.with_events([*a.events, (a.seq + 1, its_link, data)]), seq=a.seq + 1), b


def one_more_in_the_middle(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    at = rng.randrange(len(a.events))
    seq, its_link, data = a.events[at]
    rest = [(later + 1, rest_link, rest) for later, rest_link, rest in a.events[at:]]
    return a.with_events([*a.events[:at], (seq, its_link, data), *rest]), b


def another_place(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    """An event has another number."""
    at = rng.randrange(len(a.events))
    _, its_link, data = a.events[at]
    rest = [*a.events[:at], *a.events[at + 1 :]]
    return a.with_events([*rest, (a.seq + rng.randrange(1, 9), its_link, data)]), b


# -- between runs -----------------------------------------------------------------------------------------


def to_another_run(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    """The newest event belongs to another run now."""
    _, its_link, data = a.events[-1]
    return a.without(len(a.events) - 1, len(a.events)), b.with_events(
        [*b.events, (b.seq + 1, its_link, data)]
    )


def in_place_of_anothers(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    at = rng.randrange(min(len(a.events), len(b.events)))
    if a.events[at] == b.events[at]:
        return None
    return a.with_event(at, b.events[at]), b


def exchange(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    """Two runs have each other's events."""
    return a.with_events(b.events), b.with_events(a.events)


def exchange_all(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    """... and their rows say so."""
    return (
        replace(a, seq=b.seq, chain=b.chain, events=b.events),
        replace(b, seq=a.seq, chain=a.chain, events=a.events),
    )


# -- the run's row ----------------------------------------------------------------------------------------


def other_count(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    seq = max(1, a.seq + rng.choice([-2, -1, 1, 2, 256]))
    return None if seq == a.seq else (replace(a, seq=seq), b)


def other_chain(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    return replace(a, chain=a.chain ^ (1 << rng.randrange(32))), b


def other_id(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    at = rng.randrange(len(a.id))
    return replace(a, id=f"{a.id[:at]}{rng.choice('xyz')}{a.id[at:]}"), b


def other_generation(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    return replace(a, generation=a.generation + rng.randrange(1, 9)), b


# -- what a replay needn't see ----------------------------------------------------------------------------


def link_alone(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    """The content is what was recorded, as the links behind it and the row prove."""
    at = rng.randrange(len(a.events))
    seq, its_link, data = a.events[at]
    return a.with_event(at, (seq, its_link ^ (1 << rng.randrange(32)), data)), b


# -- what nobody can see ----------------------------------------------------------------------------------


def older_copy(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    """The run as it was before: its row and its events agree."""
    if len(a.events) < 2:
        return None
    left = rng.randrange(1, len(a.events))
    return replace(a.without(left, len(a.events)), seq=left, chain=a.events[left - 1][1]), b


def forged_throughout(rng: random.Random, a: Stored, b: Stored) -> Pair | None:
    """Somebody who knows how has computed everything anew."""
    found = forged_to_the_end(rng, a, b)
    assert found is not None
    return replace(found[0], chain=found[0].events[-1][1]), b


#: Each of these must be found before anything is done by the history.
KINDS: tuple[Kind, ...] = (
    flip_bit,
    blank_bytes,
    another_digit,
    cut_short,
    grown,
    other_neighbour,
    forged,
    forged_to_the_end,
    swap_contents,
    swap_rows,
    swap_neighbours,
    delete_first,
    delete_in_the_middle,
    delete_and_close_up,
    truncate,
    truncate_with_the_count,
    one_more,
    one_more_with_the_count,
    one_more_in_the_middle,
    another_place,
    to_another_run,
    in_place_of_anothers,
    exchange,
    exchange_all,
    other_count,
    other_chain,
    other_id,
    other_generation,
    link_alone,
)
#: These can't be found, and the documentation says so.
BEYOND: tuple[Kind, ...] = (older_copy, forged_throughout)


# -- raw rows ---------------------------------------------------------------------------------------------


class Raw:
    """A connection to the tables themselves, past the store."""

    mark = "?"
    prefix = ""

    def execute(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def read(self, run: int) -> Stored:
        """What is stored of a run."""
        ((id, generation, seq, chain),) = self.execute(
            f"SELECT id, generation, seq, chain FROM {self.prefix}runs WHERE run = {self.mark}", run
        )
        events = self.execute(
            f"SELECT seq, link, data FROM {self.prefix}events WHERE run = {self.mark} ORDER BY seq", run
        )
        return Stored(
            id, generation, seq, chain, tuple((place, its_link, data) for place, its_link, data in events)
        )

    def write(self, run: int, old: Stored, new: Stored) -> None:
        """Make of what is stored of a run something else."""
        m, kept = self.mark, set(old.events) & set(new.events)
        self.execute("BEGIN")
        for seq, its_link, data in old.events:
            if (seq, its_link, data) not in kept:
                self.execute(f"DELETE FROM {self.prefix}events WHERE run = {m} AND seq = {m}", run, seq)
        for event in new.events:
            if event not in kept:
                self.execute(
                    f"INSERT INTO {self.prefix}events (run, seq, link, data) VALUES ({m}, {m}, {m}, {m})",
                    run,
                    *event,
                )
        if (old.id, old.generation, old.seq, old.chain) != (new.id, new.generation, new.seq, new.chain):
            self.execute(
                f"UPDATE {self.prefix}runs SET id = {m}, generation = {m}, seq = {m}, chain = {m} WHERE run = {m}",
                *(new.id, new.generation, new.seq, new.chain, run),
            )
        self.execute("COMMIT")


class RawSqlite(Raw):
    def __init__(self, path: str) -> None:
        self.connection: Any = apsw.Connection(path)
        self.connection.execute("PRAGMA synchronous = OFF")
        self.connection.set_busy_timeout(10_000)

    def execute(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self.connection.execute(statement, values).fetchall()
        return rows

    def close(self) -> None:
        self.connection.close()


class RawPostgres(Raw):
    mark = "%s"
    prefix = "perdure."

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)
        self.connection.execute("SET synchronous_commit = off")

    def execute(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(statement.encode(), values, binary=True)
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        self.connection.close()


def raw_access(url: str) -> Raw:
    """To the database at a url."""
    return RawSqlite(url.removeprefix("sqlite:///")) if url.startswith("sqlite") else RawPostgres(url)
