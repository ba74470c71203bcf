"""A distribution over payloads that are kept sealed: what a store answers is opened, and what it is told sealed.

The distribution itself (distribution.py) and the stores know nothing of it. A publication that can't be opened here is
passed over, and stays unsettled: a worker that has its key distributes it.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any

import msgspec

from perdure.errors import SealedError
from perdure.storage.conversation import Ask, Content, Deliver, Ids, Keep, Numbered, Start, Unsettled
from perdure.storage.publications import Distributed, Gathering, Publication, Sealer

logger = logging.getLogger("perdure.publications")


def sealed(
    conversation: Generator[Ask, Any, Distributed], sealer: Sealer
) -> Generator[Ask, Any, Distributed]:
    """The same conversation, with payloads opened and sealed in between."""
    answer: Any = None
    while True:
        try:
            ask = conversation.send(answer)
        except StopIteration as end:
            done: Distributed = end.value
            return done
        if isinstance(ask, Deliver):
            ids: dict[int, str] = yield Ids(sorted({run for run, _, _ in ask.mail}))
            mail = [(run, op, sealer.mail(ids.get(run, ""), data)) for run, op, data in ask.mail]
            ask = msgspec.structs.replace(ask, mail=mail)
        answer = _opened(sealer, ask, (yield _sealed(sealer, ask)))


def _sealed(sealer: Sealer, ask: Ask) -> Ask:
    if isinstance(ask, Keep):
        added = [sealer.gathered(ask.gathering, item) for item in ask.added]
        return msgspec.structs.replace(ask, added=added)
    if isinstance(ask, Start):
        return Start([sealer.run(run) for run in ask.runs])
    return ask


def _opened(sealer: Sealer, ask: Ask, answer: Any) -> Any:
    if isinstance(ask, Numbered):  # a place in the order is needed even of what can't be opened
        return [sealer.publication(one) or msgspec.structs.replace(one, name="") for one in answer]
    if isinstance(ask, Unsettled):
        return _readable(sealer, answer)
    if isinstance(ask, Content):
        gathering = Gathering(ask.workflow, ask.group, 0.0, 0)
        opened = [sealer.content(gathering, item) for item in answer]
        if None in opened:
            msg = f"What is gathered for {ask.workflow} can't be opened here: its key isn't in the key ring."
            raise SealedError(msg)
        return opened
    return answer


def _readable(sealer: Sealer, publications: list[Publication]) -> list[Publication]:
    opened = [(one, sealer.publication(one)) for one in publications]
    for one, readable in opened:
        if readable is None:
            logger.error("event %r (%s) can't be opened here, and nobody gets it", one.name, one.id)
    return [readable for _, readable in opened if readable is not None]
