"""A sealed store knows every verb of a store: one that nobody has thought about fails here."""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

import pytest

from perdure import Encryption
from perdure.storage.effects import Effect
from perdure.storage.memory import MemoryStore
from perdure.storage.passing import PassesWorkersOn
from perdure.storage.protocol import Store
from perdure.storage.sealing import SealedStore
from perdure.storage.sealing.appends import WAYS

#: Parts that hold no payloads, and go through as they are. Who adds a verb to one of these that carries a payload has
#: to seal it: write it into `REVIEWED` only then.
AS_THEY_ARE = {
    "keys": {"obtain", "get", "of", "page", "rewrap", "erase"},
    "limits": {"turn", "all"},
    "quotas": {"set", "all", "take", "live", "measure"},
    "ledger": {"book", "report", "entries", "totals", "receive"},
    "budgets": {"define", "reserve", "change", "definitions", "standings"},
    "entities": {"kinds", "find"},
    "namespaces": {
        "all",
        "floor",
        "workflows",
        "tallies",
        "of_kind",
        "finished",
        "blocked",
        "ends",
        "took",
        "driven_since",
        "kinds",
        "entities",
        "waiting",
    },
    "queues": {"define", "change", "all", "counts", "held", "standing"},
    "disk": {"use", "shrink", "partition", "tend"},
    "resealing": {"pieces", "replace"},
    "retention": {"turn", "sweeping", "note", "leave", "ended", "orphans", "needed", "remove", "sweep"},
    "moving": {"mark", "begin", "give_up", "stamps", "read", "put", "switch", "arrive", "drop"},
}


def _verbs(protocol: Any) -> set[str]:
    return {
        name
        for kind in protocol.__mro__
        for name, member in vars(kind).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }


def _parts() -> dict[str, Any]:
    return {
        name: get_type_hints(member.fget)["return"]
        for name, member in vars(Store).items()
        if isinstance(member, property)
    }


def _sealed() -> SealedStore:
    return SealedStore(MemoryStore(), [Encryption({"k1": bytes(32)})])


@pytest.mark.parametrize("part", ["", *_parts()])
def test_every_verb_is_thought_about(part: str) -> None:
    store: Any = _sealed()
    protocol = _parts()[part] if part else Store
    if part in AS_THEY_ARE:
        assert getattr(store, part) is getattr(store.below, part)
        assert _verbs(protocol) == AS_THEY_ARE[part], "a new verb: does it carry a payload?"
        return
    around = type(getattr(store, part)) if part else type(store)
    thought_about = {*vars(around), *(() if part else vars(PassesWorkersOn))}
    for verb in _verbs(protocol):
        assert verb in thought_about, f"{part or 'Store'}.{verb} isn't sealed"
        theirs, ours = (inspect.signature(getattr(one, verb)) for one in (protocol, around))
        assert list(theirs.parameters) == list(ours.parameters), verb


def test_nothing_goes_through_unseen() -> None:
    assert not hasattr(SealedStore, "__getattr__")
    with pytest.raises(AttributeError):
        _ = _sealed().a_verb_of_tomorrow  # type: ignore[attr-defined]


def test_every_kind_of_effect_is_thought_about() -> None:
    import perdure.storage.urls  # noqa: F401 - all that define some are there

    def kinds(of: type[Effect]) -> set[type[Effect]]:
        return {kind for sub in of.__subclasses__() for kind in {sub, *kinds(sub)}}

    ours = {kind for kind in kinds(Effect) if kind.__module__.startswith("perdure.")}
    assert ours == set(WAYS)
