"""All rules of a simulation together."""

from __future__ import annotations

from perdure.testing.simulation.books import SimulatedBooks
from perdure.testing.simulation.callees import SINGLE
from perdure.testing.simulation.observer import Observer
from perdure.testing.simulation.rules.callbacks import FirstCompletion
from perdure.testing.simulation.rules.calls import Calls, Pauses
from perdure.testing.simulation.rules.money import Spending
from perdure.testing.simulation.rules.people import Answers, Decisions, Singletons
from perdure.testing.simulation.rules.publications import Subscribers
from perdure.testing.simulation.rules.queues import QueueLimits
from perdure.testing.simulation.rules.rates import RateLimits
from perdure.testing.simulation.rules.schedules import Slots
from perdure.testing.simulation.rules.streams import StreamItems


class Rules:
    """The rules, each by its name, for those who tell them what the database can't.

    Attributes:
        observer: tells them of what is committed.
    """

    def __init__(self, observer: Observer, books: SimulatedBooks) -> None:
        self.observer = observer
        self.queues = QueueLimits(observer)
        self.subscribers = Subscribers(observer)
        self.callbacks = FirstCompletion(observer, books)
        self.schedules = Slots(observer)
        self.streams = StreamItems(observer, books)
        self.calls = Calls(observer)
        self.pauses = Pauses(observer)
        self.answers = Answers(observer)
        self.rates = RateLimits(observer)
        observer.rules = [
            self.queues,
            self.subscribers,
            self.callbacks,
            self.schedules,
            self.streams,
            self.calls,
            self.pauses,
            self.answers,
            Decisions(observer),
            Singletons(observer, SINGLE),
            self.rates,
            Spending(observer),
        ]
