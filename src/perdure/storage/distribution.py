"""How publications come to those who want them: one algorithm for all stores.

It is a conversation. The generator `distribute` asks for rows and says what to write, a store answers by its
statements (conversation.py has what is asked), and all of it is one transaction under one lock:

1. Publications that nobody has seen get the next numbers.
2. Waits that are new look back: each gets the first publication that fits, if there is one already.
3. Unsettled publications, in order, go to the waits that they fit, to the subscriptions that start a run at once, and
   into the gatherings of those that debounce or batch. A publication with very many takers is settled when the last one
   has it.
4. Gatherings that are due start their runs.

A wait that isn't new any more has seen everything that is numbered; and a publication is settled under the same lock.
So no wait and publication can miss each other, whichever comes first.

Subscriptions are code's, and hold in every namespace: what is published in one starts runs there. Names of publications
and of waits, and groups of gatherings, begin with their namespace; so nothing gets from one into another.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any, TypeAlias

import msgspec

from perdure.codec.events import encode_event
from perdure.core import events as ev
from perdure.core.finding import fingerprint
from perdure.core.namespaces import prefix_of, short
from perdure.core.where import fits, group_of, match_of_payload, match_of_where, where_of
from perdure.storage.chance import chance
from perdure.storage.conversation import (
    Ask,
    Content,
    Deliver,
    DueGatherings,
    GatheringOf,
    Keep,
    Lock,
    LookedBack,
    NewWaits,
    Number,
    Numbered,
    Settle,
    Shapes,
    Start,
    Subscriptions,
    Takers,
    ToDo,
    Unnumbered,
    Unsettled,
)
from perdure.storage.publications import (
    Distributed,
    Gathered,
    Gathering,
    Publication,
    Sealer,
    Subscription,
    Waiting,
    fields_text,
    number_at,
    numbers_for,
)
from perdure.storage.records import NewRun
from perdure.storage.sealed_conversation import sealed

#: Publications numbered, or settled, and waits that look back, in one transaction.
PUBLICATIONS_MAX = 200
#: Mail sent in one transaction, about.
MAIL_MAX = 500
#: Gatherings that start their runs in one transaction.
GATHERINGS_MAX = 50
#: Rows fetched at once.
PAGE = 200
#: Seconds by which the clocks of those who publish may differ from those of workers, for the look back.
SKEW = 300.0
#: Largest list of payloads that a run is started with, in bytes; the rest is for the next run.
INPUT_MAX = 1024 * 1024

SEED_BYTES = 32


Conversation: TypeAlias = Generator[Ask, Any, Distributed]

_decode = msgspec.json.Decoder().decode


def _payload(publication: Publication) -> Any:
    """Its payload as a value; null for what isn't JSON, which somebody else must have put there."""
    try:
        return _decode(publication.payload)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def distribute(now: float, sealer: Sealer | None = None) -> Conversation:
    """One distribution, to be answered by a store.

    Args:
        sealer: opens and seals payloads, if they are kept sealed.
    """
    conversation = _distribute(now)
    return conversation if sealer is None else sealed(conversation, sealer)


def _distribute(now: float) -> Conversation:
    todo: ToDo | None = yield Lock(now)
    if todo is None:
        return Distributed(busy=True)
    more = False
    mail: list[tuple[int, str, bytes]] = []
    runs: list[NewRun] = []
    gathers = False
    if todo.new:
        more |= yield from _number(todo.last, now)
    if todo.waits:
        more |= yield from _look_back(mail, now)
    if todo.new or todo.unsettled:
        unsettled, gathers = yield from _settle(todo.subscribed, mail, runs, now)
        more |= unsettled
    if todo.due or gathers:
        more |= yield from _fire(runs, now)
    if mail:
        yield Deliver(sorted(mail), now)
    started: int = (yield Start(runs)) if runs else 0
    return Distributed(started, len(mail), more=more)


def _number(last: int, now: float) -> Generator[Ask, Any, bool]:
    found: list[str] = yield Unnumbered(PUBLICATIONS_MAX)
    if found:
        yield Number(numbers_for(found, last, now))
    return len(found) == PUBLICATIONS_MAX


# -- waits ----------------------------------------------------------------------------------------------


class _Waits:
    """Waits by their digests."""

    def __init__(self, waits: Iterable[Waiting]) -> None:
        self._by_match: dict[bytes, list[tuple[Waiting, dict[str, Any]]]] = {}
        self._shapes: set[tuple[str, ...]] = set()
        for wait in waits:
            where = where_of(wait.where)
            self._by_match.setdefault(match_of_where(wait.name, where), []).append((wait, where))
            self._shapes.add(tuple(_decode(fields_text(wait.where))))

    def __bool__(self) -> bool:
        return bool(self._by_match)

    def take(self, publication: Publication) -> list[Waiting]:
        """Take out those that this publication fits."""
        payload = _payload(publication)
        taken: list[Waiting] = []
        for fields in self._shapes:
            match = match_of_payload(publication.name, fields, payload)
            known = None if match is None else self._by_match.pop(match, None)
            if match is None or known is None:
                continue
            left = [item for item in known if not _wants(*item, publication, payload)]
            taken += [wait for wait, where in known if (wait, where) not in left]
            if left:
                self._by_match[match] = left
        return taken


def _wants(wait: Waiting, where: dict[str, Any], publication: Publication, payload: Any) -> bool:
    assert publication.number is not None
    return publication.number > wait.after and publication.at >= wait.since and fits(where, payload)


def _look_back(mail: list[tuple[int, str, bytes]], now: float) -> Generator[Ask, Any, bool]:
    """Mail to new waits. True: there are more of them."""
    found: list[Waiting] = yield NewWaits(PUBLICATIONS_MAX)
    by_name: dict[str, list[Waiting]] = {}
    for wait in found:
        by_name.setdefault(wait.name, []).append(wait)
    for name, waits in by_name.items():
        after = min(max(wait.after, number_at(wait.since - SKEW) - 1) for wait in waits)
        left = _Waits(waits)
        while left:
            page: list[Publication] = yield Numbered(name, after, PAGE)
            for publication in page:
                mail += [_arrival(wait, publication, now) for wait in left.take(publication)]
            if len(page) < PAGE:
                break
            after = page[-1].number or 0
    got = {(run, op) for run, op, _ in mail}
    without = [(wait.run, wait.op) for wait in found if (wait.run, wait.op) not in got]
    if without:
        yield LookedBack(without)
    return len(found) == PUBLICATIONS_MAX


def _arrival(wait: Waiting, publication: Publication, now: float) -> tuple[int, str, bytes]:
    assert publication.number is not None
    event = ev.PublicationArrived(
        at=now,
        wait=wait.op,
        name=short(publication.name),
        number=publication.number,
        published_at=publication.at,
        payload=publication.payload,
        key=publication.key,
    )
    return wait.run, wait.op, encode_event(event)


# -- publications ---------------------------------------------------------------------------------------


def _settle(
    subscribed: bool,
    posted: list[tuple[int, str, bytes]],
    runs: list[NewRun],
    now: float,
) -> Generator[Ask, Any, tuple[bool, bool]]:
    """What unsettled publications lead to: whether there are more of them, and whether any was gathered."""
    found: list[Publication] = yield Unsettled(PUBLICATIONS_MAX)
    if not found:
        return False, False
    subscriptions: list[Subscription] = []
    if subscribed:
        subscriptions = yield Subscriptions(events=sorted({short(publication.name) for publication in found}))
    shapes: dict[str, list[list[str]]] = {}
    for name, fields in (yield Shapes(sorted({publication.name for publication in found}))):
        shapes.setdefault(name, []).append(_decode(fields))
    wanted: dict[str, list[Subscription]] = {}
    for subscription in subscriptions:
        wanted.setdefault(subscription.event, []).append(subscription)
    mail: dict[tuple[int, str], bytes] = {}
    gathered: dict[tuple[str, str], list[Gathered]] = {}
    settled: list[str] = []
    for publication in found:
        payload = _payload(publication)
        if publication.name in shapes:
            whole = yield from _tell(publication, payload, shapes[publication.name], mail, now)
            if not whole:
                break
        within = prefix_of(publication.name)
        for subscription in wanted.get(short(publication.name), ()):
            assert publication.number is not None
            if publication.number > subscription.begins and fits(where_of(subscription.where), payload):
                item = Gathered(publication.number, publication.at, publication.payload)
                if subscription.debounce is None and subscription.batch is None:
                    runs.append(_run(subscription, [item], now, within))
                else:
                    place = subscription.workflow, within + group_of(subscription.by, payload)
                    gathered.setdefault(place, []).append(item)
        settled.append(publication.id)
    known = {subscription.workflow: subscription for subscription in subscriptions}
    for (workflow, group), items in gathered.items():
        yield from _gather(known[workflow], group, items)
    if settled:
        yield Settle(settled)
    posted += [(run, op, data) for (run, op), data in mail.items()]
    return len(settled) < len(found) or len(found) == PUBLICATIONS_MAX, bool(gathered)


def _tell(
    publication: Publication,
    payload: Any,
    shapes: Sequence[Sequence[str]],
    mail: dict[tuple[int, str], bytes],
    now: float,
) -> Generator[Ask, Any, bool]:
    """Mail to the runs that wait for this; False if there may be more of them."""
    matches = [match_of_payload(publication.name, fields, payload) for fields in shapes]
    wanted = [match for match in matches if match is not None]
    after = (-1, "")
    while wanted:
        page: list[Waiting] = yield Takers(wanted, after, PAGE)
        for wait in page:
            place = wait.run, wait.op
            if place not in mail and _wants(wait, where_of(wait.where), publication, payload):
                mail[place] = _arrival(wait, publication, now)[2]
        if len(page) < PAGE:
            break
        if len(mail) >= MAIL_MAX:
            return False
        after = page[-1].run, page[-1].op
    return True


# -- gatherings -----------------------------------------------------------------------------------------


def _gather(subscription: Subscription, group: str, items: Sequence[Gathered]) -> Generator[Ask, Any, None]:
    """Add publications to what is gathered."""
    standing: Gathering | None = yield GatheringOf(subscription.workflow, group)
    count = 0 if standing is None else standing.count
    if subscription.debounce is not None:
        last = items[-1]
        due_at = max(last.at + subscription.debounce, 0.0 if standing is None else standing.due_at)
        gathering = Gathering(subscription.workflow, group, due_at, 1)
        yield Keep(gathering, [last], dropped=last.number - 1)
    else:
        assert subscription.batch is not None
        count += len(items)
        due_at = items[0].at + (subscription.within or 0.0) if standing is None else standing.due_at
        if count >= subscription.batch:
            due_at = 0.0
        yield Keep(Gathering(subscription.workflow, group, due_at, count), items)


def _fire(runs: list[NewRun], now: float) -> Generator[Ask, Any, bool]:
    """Runs of the gatherings that are due. True: there are more of them."""
    due: list[Gathering] = yield DueGatherings(now, GATHERINGS_MAX)
    if not due:
        return False
    subscriptions: list[Subscription] = yield Subscriptions(workflows=sorted({one.workflow for one in due}))
    known = {subscription.workflow: subscription for subscription in subscriptions}
    more = len(due) == GATHERINGS_MAX
    for gathering in due:
        subscription, within = known.get(gathering.workflow), prefix_of(gathering.group)
        size = gathering.count if subscription is None or not subscription.batch else subscription.batch
        items: list[Gathered] = yield Content(gathering.workflow, gathering.group, min(size, 10_000))
        if not items:
            yield Keep(Gathering(gathering.workflow, gathering.group, 0.0, 0))
            continue
        if subscription is not None and subscription.batch:
            items = _not_too_large(items)
            runs.append(_run(subscription, items, now, within, whole=True))
        elif subscription is not None and subscription.debounce is not None:
            runs.append(_run(subscription, items[-1:], now, within))
        elif subscription is not None:  # it doesn't gather any more
            runs += [_run(subscription, [item], now, within) for item in items]
        left = gathering.count - len(items)
        due_at = 0.0
        if left and subscription is not None and subscription.batch and left < subscription.batch:
            due_at = now + (subscription.within or 0.0)
        more = more or (left > 0 and due_at == 0.0)
        yield Keep(Gathering(gathering.workflow, gathering.group, due_at, left), dropped=items[-1].number)
    return more


def _not_too_large(items: Sequence[Gathered]) -> list[Gathered]:
    taken: list[Gathered] = []
    size = 0
    for item in items:
        size += len(item.payload)
        if taken and size > INPUT_MAX:
            break
        taken.append(item)
    return taken


def _run(
    subscription: Subscription, items: Sequence[Gathered], now: float, within: str, *, whole: bool = False
) -> NewRun:
    """The run that a subscription starts, with one payload or a list of them as its argument.

    Args:
        within: the prefix of the namespace where it was published.
    """
    joined = b",".join(item.payload for item in items)
    input = b"[[[" + joined + b"]],{}]" if whole else b"[[" + joined + b"],{}]"
    started = ev.RunStarted(
        at=now,
        workflow=subscription.workflow,
        input=input,
        seed=chance.secret(SEED_BYTES),
        heard=ev.Heard(now, event=subscription.event),
    )
    return NewRun(
        id=f"{within}{subscription.workflow}:{items[-1].number}",
        workflow=subscription.workflow,
        fingerprint=fingerprint(subscription.workflow.encode() + b"\0" + input),
        first_event=encode_event(started),
        queue=subscription.queue,
        created_at=now,
        wake_at=now,
        pinned=subscription.pinned,
    )
