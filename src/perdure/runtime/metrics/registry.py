"""Where numbers are kept: plain cells, written by one event loop, read by anybody at any time.

A label's first `LABELS_MAX` values are told apart; all others together are OTHER. So whatever names somebody makes up,
the number of series stays bounded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, TypeAlias

from perdure.runtime.metrics.catalogue import CATALOGUE, Metric

LABELS_MAX: Final = 200  #: values of one label of one metric
OTHER: Final = "other"

#: Values of a metric's labels, in their order.
Labels: TypeAlias = tuple[str, ...]


class Sample(NamedTuple):
    """A number.

    Attributes:
        value: of a histogram the sum of what was observed.
        bars: of a histogram, how many observations fell into which bar, see `Metric.buckets`.
    """

    metric: Metric
    labels: Labels
    value: float
    bars: tuple[int, ...] = ()


class Cell:
    """A number."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0


class Bars:
    """A histogram: how many observations fell into which bar.

    Attributes:
        counts: of the bars, those above all bounds last; not cumulated.
        also: is told each observation, too.
    """

    __slots__ = ("also", "bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.also: Callable[[float], None] | None = None

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value
        if self.also is not None:
            self.also(value)


class Names:
    """Which values of labels are told apart, over all registries that share this."""

    def __init__(self, cap: int = LABELS_MAX) -> None:
        self._cap = cap
        self._known: dict[tuple[str, int], set[str]] = {}

    def bounded(self, metric: Metric, labels: Labels) -> Labels:
        """The labels, with OTHER in place of what is too many."""
        return tuple([self._one(metric.name, place, value) for place, value in enumerate(labels)])

    def _one(self, metric: str, place: int, value: str) -> str:
        known = self._known.setdefault((metric, place), set())
        if value in known:
            return value
        if len(known) >= self._cap:
            return OTHER
        known.add(value)
        return value


class Registry:
    """The numbers of one engine.

    Args:
        names: shared by all whose numbers are shown together.
        also: makes what is told each observation of a histogram, too; None = nothing.
    """

    def __init__(
        self, names: Names, also: Callable[[Metric, Labels], Callable[[float], None]] | None = None
    ) -> None:
        self._names = names
        self._also = also
        self._cells: dict[tuple[str, Labels], Cell] = {}
        self._bars: dict[tuple[str, Labels], Bars] = {}

    def cell(self, name: str, *labels: str) -> Cell:
        """The cell of a counter. To be kept by who counts often."""
        key = name, self._bounded(name, labels)
        found = self._cells.get(key)
        if found is None:
            found = self._cells[key] = Cell()
        return found

    def bars(self, name: str, *labels: str) -> Bars:
        """The bars of a histogram."""
        key = name, self._bounded(name, labels)
        found = self._bars.get(key)
        if found is None:
            metric = CATALOGUE[name]
            found = self._bars[key] = Bars(metric.buckets)
            found.also = None if self._also is None else self._also(metric, key[1])
        return found

    def cells(self) -> Iterator[tuple[str, Labels, float]]:
        """What all counters show, safe in any thread."""
        for (name, labels), cell in list(self._cells.items()):
            yield name, labels, cell.value

    def histograms(self) -> Iterator[tuple[str, Labels, list[int], float]]:
        """What all histograms show, safe in any thread."""
        for (name, labels), bars in list(self._bars.items()):
            yield name, labels, list(bars.counts), bars.sum

    def add(self, other: Registry) -> None:
        """Take over the numbers of an engine that is closed."""
        for (name, labels), cell in other._cells.items():
            self.cell(name, *labels).value += cell.value
        for (name, labels), bars in other._bars.items():
            mine = self.bars(name, *labels)
            mine.counts = [a + b for a, b in zip(mine.counts, bars.counts, strict=True)]
            mine.sum += bars.sum

    def _bounded(self, name: str, labels: Labels) -> Labels:
        metric = CATALOGUE[name]
        assert len(labels) == len(metric.labels), f"{name} has the labels {metric.labels}"
        return self._names.bounded(metric, labels) if labels else labels
