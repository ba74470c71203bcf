"""Appends on their way to the store below: events, and whatever else in them holds payloads.

A driver goes by the links of what it has encoded, the store below by those of what it keeps. So the chain of each run
that is driven here is known here: from its row when it is claimed or made, and then from append to append.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from perdure.codec.sealing.chain import DataKey
from perdure.core.status import FINAL
from perdure.storage.attributes import MarkPatched, Misfit, SetAttributes
from perdure.storage.budgets import AwaitMoney
from perdure.storage.callbacks import OpenCallback, WithdrawCallback, unpack_question
from perdure.storage.chain import first_link, links
from perdure.storage.effects import DeliverMessage, Effect, KeepCheckpoint, SetUpdate, StepDetail
from perdure.storage.errands import StopErrand
from perdure.storage.ledger import Book, Inherit
from perdure.storage.publications import CloseWait, CloseWaits, OpenWait, Publication, Publish
from perdure.storage.records import Append, Appended, NewRun, RunRow, Stale, Successor
from perdure.storage.sealing.index import hidden
from perdure.storage.sealing.vault import Vault
from perdure.storage.streams import Emit, Settle, Supersede

_FINAL = frozenset(status.value for status in FINAL)


class Driven:
    """A run that is driven here.

    Attributes:
        seq, chain: as the store below has it.
        key: of its subject, if it has one; `asked` tells whether that is known.
        parent: the id of the run that started it.
    """

    __slots__ = ("asked", "chain", "generation", "id", "key", "parent", "seq")

    def __init__(
        self,
        id: str,
        generation: int,
        seq: int,
        chain: int,
        key: DataKey | None,
        parent: str | None,
        *,
        asked: bool,
    ) -> None:
        self.id = id
        self.parent = parent
        self.generation = generation
        self.seq = seq
        self.chain = chain
        self.key = key
        self.asked = asked


class Appends:
    """Seals appends, and follows the chains of the runs they are for."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._runs: dict[int, Driven] = {}

    def follow(self, row: RunRow, key: DataKey | None = None, *, asked: bool = False) -> None:
        """A run is driven here from now on."""
        self._runs[row.run] = Driven(
            row.id, row.generation, row.seq, row.chain, key, row.parent_id, asked=asked
        )

    def forget_all(self) -> None:
        """Nothing is driven here any more."""
        self._runs.clear()

    def of(self, run: int) -> Driven | None:
        return self._runs.get(run)

    def __contains__(self, run: int) -> bool:
        return run in self._runs

    def ready(self, append: Append) -> bool:
        """Whether all is known that sealing it takes."""
        driven = self._runs.get(append.run)
        return driven is not None and driven.seq == append.expected and (driven.asked or not append.events)

    def sealed(self, append: Append, keys: Mapping[str, DataKey | None]) -> Append:
        """What goes to the store below.

        Args:
            keys: of the other runs that it sends something to.
        """
        driven = self._runs[append.run]
        vault, id, key = self._vault, driven.id, driven.key
        seq = append.expected
        events = [
            vault.event(data, id, driven.generation, seq + place, key)
            for place, data in enumerate(append.events, 1)
        ]
        changed: dict[str, Any] = {"events": events, "links": links(driven.chain, events)}
        if append.reason is not None:
            changed["reason"] = vault.reason(append.reason, id, key)
        if append.children:
            changed["children"] = [self.new_run(child, key) for child in append.children]
        if append.parent_mail is not None:
            changed["parent_mail"] = vault.mail(append.parent_mail, driven.parent or "", key)
        if append.effects:
            changed["effects"] = [self._effect(effect, driven, keys) for effect in append.effects]
        if append.successor is not None:
            run = msgspec.structs.replace(append.successor.run, id=id)
            changed["successor"] = Successor(self.new_run(run, key))
        return msgspec.structs.replace(append, **changed)

    def new_run(self, run: NewRun, key: DataKey | None) -> NewRun:
        """A run to create."""
        vault = self._vault
        dedup = run.dedup if run.debounce else None
        first = vault.event(run.first_event, run.id, run.generation, 1, key, dedup)
        mail = [
            msgspec.structs.replace(item, data=vault.mail(item.data, run.id, key, run.dedup))
            for item in run.mail
        ]
        fingerprint = hidden(vault, run.fingerprint)
        return msgspec.structs.replace(run, first_event=first, mail=mail, fingerprint=fingerprint)

    def done(self, append: Append, answer: Appended | Stale) -> None:
        """What came of a sealed append."""
        driven = self._runs.get(append.run)
        if driven is None:
            return
        if isinstance(answer, Stale):
            self._runs.pop(append.run, None)
            return
        driven.seq = answer.seq
        if append.links:
            driven.chain = append.links[-1]
        for child, (run, epoch) in zip(append.children, answer.children, strict=True):
            if epoch:
                self._begun(run, child, driven.key, driven.id)
        if append.successor is not None and answer.successor is not None and answer.successor[1]:
            self._begun(answer.successor[0], append.successor.run, driven.key, driven.parent)
        if append.release or append.status in _FINAL:
            self._runs.pop(append.run, None)

    def _begun(self, run: int, new: NewRun, key: DataKey | None, parent: str | None) -> None:
        chain = first_link(new.id, new.generation, new.first_event)
        self._runs[run] = Driven(new.id, new.generation, 1, chain, key, parent, asked=True)

    def _effect(self, effect: Effect, driven: Driven, keys: Mapping[str, DataKey | None]) -> Effect:
        way = WAYS.get(type(effect))
        if way is None:
            msg = f"nobody has said how an effect of kind {type(effect).__name__} is sealed: see WAYS"
            raise NotImplementedError(msg)
        sealed: Effect = way(self._vault, effect, driven, keys)
        return sealed


# -- effects --------------------------------------------------------------------------------------------

_Keys = Mapping[str, "DataKey | None"]
_change = msgspec.structs.replace


def _in_the_clear(vault: Vault, effect: Effect, driven: Driven, keys: _Keys) -> Effect:
    """Names, numbers and times only."""
    return effect


def _message(vault: Vault, effect: DeliverMessage, driven: Driven, keys: _Keys) -> Effect:
    return _change(effect, data=vault.mail(effect.data, effect.to, keys.get(effect.to)))


def _update(vault: Vault, effect: SetUpdate, driven: Driven, keys: _Keys) -> Effect:
    if effect.answer is None:
        return effect
    answer = vault.value(effect.answer, "update", driven.id, effect.update, key=driven.key)
    return _change(effect, answer=answer)


def _detail(vault: Vault, effect: StepDetail, driven: Driven, keys: _Keys) -> Effect:
    if effect.data is None:
        return effect
    return _change(effect, data=vault.value(effect.data, "detail", driven.id, effect.step, key=driven.key))


def _emit(vault: Vault, effect: Emit, driven: Driven, keys: _Keys) -> Effect:
    return _change(effect, data=vault.value(effect.data, "stream", driven.id, effect.stream, key=driven.key))


def _errand(vault: Vault, effect: StopErrand, driven: Driven, keys: _Keys) -> Effect:
    event = vault.final(effect.event, effect.errand, driven.key)
    request = None if effect.request is None else vault.mail(effect.request, effect.errand, driven.key)
    return _change(effect, event=event, request=request)


def _callback(vault: Vault, effect: OpenCallback, driven: Driven, keys: _Keys) -> Effect:
    if effect.question is None:
        return effect
    question = unpack_question(effect.question)
    mark = vault.digest(question.text, question.details, question.digest)
    row = driven.id, effect.token_hash.hex()
    return _change(effect, question=vault.value(effect.question, "question", *row, key=driven.key, mark=mark))


def _money(vault: Vault, effect: AwaitMoney, driven: Driven, keys: _Keys) -> Effect:
    return _change(effect, mail=vault.mail(effect.mail, driven.id, driven.key))


def _publish(vault: Vault, effect: Publish, driven: Driven, keys: _Keys) -> Effect:
    return _change(effect, publication=published(vault, effect.publication))


def published(vault: Vault, publication: Publication) -> Publication:
    """A publication as it is kept."""
    payload = vault.value(publication.payload, "publication", publication.id)
    return _change(publication, payload=payload)


#: What becomes of each kind of effect. A kind that isn't here can't be appended.
WAYS: dict[type[Effect], Callable[[Vault, Any, Driven, _Keys], Effect]] = {
    DeliverMessage: _message,
    SetUpdate: _update,
    StepDetail: _detail,
    Emit: _emit,
    StopErrand: _errand,
    OpenCallback: _callback,
    AwaitMoney: _money,
    Publish: _publish,
    KeepCheckpoint: _in_the_clear,
    WithdrawCallback: _in_the_clear,
    Supersede: _in_the_clear,
    Settle: _in_the_clear,
    OpenWait: _in_the_clear,
    CloseWait: _in_the_clear,
    CloseWaits: _in_the_clear,
    Book: _in_the_clear,
    Inherit: _in_the_clear,
    SetAttributes: _in_the_clear,
    MarkPatched: _in_the_clear,
    Misfit: _in_the_clear,
}
