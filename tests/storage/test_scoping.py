"""Each verb of a store is tried by one namespace against what another one has: nothing is there, nothing changes.

`TRIES` says for each verb how. It is asked with what another namespace has, and with what nobody has: both must come
to the same. A verb that isn't on the list fails the test that holds the list against the protocols.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.codec.events import encode_event
from perdure.core.accounts import AccountKey
from perdure.core.attributes import Attribute
from perdure.core.events import CancelRequested, Question
from perdure.core.namespaces import check_namespace, namespace_of, prefix_for, prefix_of, short
from perdure.errors import NamespaceError, UsageError
from perdure.storage.budgets import Raise
from perdure.storage.callbacks import OpenCallback, QuestionFilter, pack_question
from perdure.storage.chain import links
from perdure.storage.checkpoints import ChannelValue, CheckpointHead, CheckpointRow
from perdure.storage.effects import Effect
from perdure.storage.inquiries import NewInquiry
from perdure.storage.keys import KeyRow
from perdure.storage.ledger import Book, Query
from perdure.storage.memory import MemoryStore
from perdure.storage.protocol import Store
from perdure.storage.publications import Publication, keyed_id
from perdure.storage.records import Append, NewMail, NewRun, RunFilter
from perdure.storage.schedules import ScheduleRow
from perdure.storage.scoping import records as mapping
from perdure.storage.scoping.store import ScopedStore
from perdure.storage.streams import Emit
from perdure.storage.updates import UpdateRow
from perdure.storage.workers import WorkerRow
from perdure.testing.conformance.bench import NOW

CANARY = "hunter2"  #: in everything that the other namespace has
THEIRS = "qqrun"
CANCEL = encode_event(CancelRequested(at=NOW, reason="theirs"))


class Refs(msgspec.Struct):
    """Names of things, which exist or not."""

    id: str
    run: int
    token: bytes
    inquiry: int
    key: str
    name: str


async def fill(inner: Store) -> Refs:
    """What the namespace `a` has: one of everything."""
    a = ScopedStore(inner, "a")
    worker = await inner.register(WorkerRow(0, "w", "h", 1, 1, NOW, NOW + 1e6, ["default"], ["wf"]), now=NOW)
    new = NewRun(THEIRS, "wf", b"print", CANARY.encode(), "default", NOW, NOW, owner=worker, key=CANARY)
    (made,) = await a.create([new])
    row, token = made.row, b"t" * 32
    question = pack_question(Question(id="q", text=CANARY, form=b"{}"))
    effects: list[Effect] = [
        OpenCallback(token, "callback:1", NOW, question=question),
        Emit("log", CANARY.encode()),
    ]
    events = [CANARY.encode()]
    (answer,) = await inner.append(
        [Append(row.run, row.seq, row.epoch, 1, events, NOW, links(row.chain, events), effects=effects)]
    )
    assert answer.seq == 2
    await a.attributes.set(THEIRS, [Attribute("who", "text", (CANARY,))], b"set", now=NOW)
    await a.updates.request(THEIRS, "u", CANARY.encode(), call=b"c", now=NOW)
    await a.schedules.create(ScheduleRow("qqs", 1, NOW, False, [THEIRS], CANARY.encode()))
    await a.publications.publish([Publication(keyed_id("qqname", "k"), "qqname", "k", CANARY.encode(), NOW)])
    await a.checkpoints.put(
        CheckpointRow("qqt", "", "c", None, "m", {"ch": "1"}, b"", CANARY.encode()),
        [ChannelValue("ch", "1", CANARY.encode())],
    )
    await inner.keys.obtain(KeyRow("key-1", "subject::a/s", "ring", CANARY.encode(), NOW))
    inquiry = await a.inquiries.ask(NewInquiry(THEIRS, "wf", "q", CANARY.encode(), NOW + 60), now=NOW)
    await inner.inquiries.answer(inquiry, CANARY.encode())
    return Refs(THEIRS, row.run, token, inquiry, "key-1", "qqname")


async def dump(inner: Store, refs: Refs) -> str:
    """All that the namespace `a` has."""
    a = ScopedStore(inner, "a")
    packages = await inner.moving.read([f":a/{refs.id}"])
    found: list[Any] = [
        packages,
        await a.find(RunFilter()),
        await a.inbox(refs.run),
        await a.schedules.all(),
        await a.publications.find(limit=10),
        await a.checkpoints.get("qqt", "", None),
        await a.checkpoints.heads(None, None, limit=10),
        await a.keys.of("subject:s"),
        await a.updates.look([(THEIRS, "u")]),
        await a.callbacks.questions(QuestionFilter(NOW)),
    ]
    return repr(found)


def _new(id: str, **fields: Any) -> NewRun:
    return NewRun(id, "wf", b"print", b"mine", "default", NOW, NOW, **fields)


def _row(refs: Refs) -> ScheduleRow:
    return ScheduleRow("qqs" if refs.id == THEIRS else "zzs", 1, NOW, False, [], b"mine")


def _thread(refs: Refs) -> str:
    return "qqt" if refs.id == THEIRS else "zzt"


Try = Callable[[ScopedStore, Refs], Awaitable[Any]]
_HEAD = CheckpointHead(":a/qqt", "", "c", b"")

#: How each verb of clients is tried. The others are in REFUSED.
TRIES: dict[str, Try] = {
    "create": lambda b, r: b.create([_new("mine", follows=r.run)]),
    "send": lambda b, r: b.send(r.id, CANCEL, now=NOW),
    "terminate": lambda b, r: b.terminate(r.id, b"end", now=NOW),
    "get": lambda b, r: b.get([r.id, f":a/{r.id}", f"a/{r.id}", f"../a/{r.id}"]),
    "generation": lambda b, r: b.generation(r.id, 1),
    "inbox": lambda b, r: b.inbox(r.run),
    "find": lambda b, r: b.find(RunFilter(among=[r.run])),
    "events": lambda b, r: b.events(r.run),
    "last_event": lambda b, r: b.last_event([r.run]),
    "load": lambda b, r: b.load([r.run]),
    "workers": lambda b, r: b.workers(),
    "attributes.set": lambda b, r: b.attributes.set(r.id, [Attribute("x", "text", ("y",))], b"e", now=NOW),
    "attributes.of": lambda b, r: b.attributes.of([r.run]),
    "callbacks.end": lambda b, r: b.callbacks.end(r.token, result=b"1", now=NOW),
    "callbacks.heartbeat": lambda b, r: b.callbacks.heartbeat(r.token, now=NOW),
    "callbacks.time_out": lambda b, r: b.callbacks.time_out(r.token, now=NOW + 1e9),
    "callbacks.get": lambda b, r: b.callbacks.get(r.token),
    "callbacks.questions": lambda b, r: b.callbacks.questions(QuestionFilter(NOW, open=False)),
    "publications.publish": lambda b, r: b.publications.publish(
        [Publication(keyed_id(r.name, "k"), r.name, "k", b"mine", NOW)]
    ),
    "publications.subscriptions": lambda b, r: b.publications.subscriptions(),
    "publications.waiting": lambda b, r: b.publications.waiting(),
    "publications.find": lambda b, r: b.publications.find(name=f":a/{r.name}", within=":a/", limit=10),
    "schedules.create": lambda b, r: b.schedules.create(_row(r)),
    "schedules.get": lambda b, r: b.schedules.get(f":a/{_row(r).name}"),
    "schedules.all": lambda b, r: b.schedules.all(),
    "schedules.change": lambda b, r: b.schedules.change(
        msgspec.structs.replace(_row(r), version=99), mail=[(r.id, CANCEL)], now=NOW
    ),
    "schedules.delete": lambda b, r: b.schedules.delete(f"{_row(r).name}x"),
    "limits.all": lambda b, r: b.limits.all(),
    "ledger.report": lambda b, r: b.ledger.report(Query(run=r.id)),
    "ledger.entries": lambda b, r: b.ledger.entries(r.run),
    "checkpoints.put": lambda b, r: b.checkpoints.put(
        CheckpointRow(_thread(r), "", "c", None, "m", {}, b"", b"mine"), []
    ),
    "checkpoints.put_writes": lambda b, r: b.checkpoints.put_writes(_thread(r), "", "c", []),
    "checkpoints.get": lambda b, r: b.checkpoints.get(f":a/{_thread(r)}", "", None),
    "checkpoints.heads": lambda b, r: b.checkpoints.heads(None, None, after=_HEAD, limit=10),
    "checkpoints.past": lambda b, r: b.checkpoints.past(_thread(r) + "x", "", "c", ["ch"]),
    "checkpoints.delete": lambda b, r: b.checkpoints.delete(_thread(r)),
    "checkpoints.delete_of_runs": lambda b, r: b.checkpoints.delete_of_runs(["m", ":a/m"]),
    "checkpoints.copy": lambda b, r: b.checkpoints.copy(f":a/{_thread(r)}", _thread(r)),
    "checkpoints.prune": lambda b, r: b.checkpoints.prune(_thread(r), "", before="z", keep=[]),
    "budgets.change": lambda b, r: b.budgets.change(Raise(AccountKey("all", ":a/qqrun"), cost=1), now=NOW),
    "budgets.definitions": lambda b, r: b.budgets.definitions(),
    "budgets.standings": lambda b, r: b.budgets.standings("all"),
    "updates.request": lambda b, r: b.updates.request(r.id, "u2", b"mine", call=b"c", now=NOW),
    "updates.look": lambda b, r: b.updates.look([(r.id, "u"), (f":a/{r.id}", "u")]),
    "pauses.pause": lambda b, r: b.pauses.pause(r.id, b"pause", reason=None, now=NOW),
    "pauses.resume": lambda b, r: b.pauses.resume(r.id, b"resume", now=NOW),
    "survey.floor": lambda b, r: b.survey.floor(None, depth=0),
    "survey.few": lambda b, r: b.survey.few(RunFilter(statuses=["running", "queued"]), cap=10),
    "survey.keys": lambda b, r: b.survey.keys(RunFilter(within=":a/", among=[r.run])),
    "survey.rows": lambda b, r: b.survey.rows([r.run]),
    "survey.workflows": lambda b, r: b.survey.workflows(depth=10),
    "survey.tallies": lambda b, r: b.survey.tallies(),
    "survey.blocked": lambda b, r: b.survey.blocked(),
    "survey.of_kind": lambda b, r: b.survey.of_kind("running", "wf", skip=0, limit=10),
    "survey.finished": lambda b, r: b.survey.finished(0.0, width=1e10, limit=10),
    "survey.ends": lambda b, r: b.survey.ends(0.0, limit=10),
    "survey.took": lambda b, r: b.survey.took(limit=10),
    "survey.driven_since": lambda b, r: b.survey.driven_since(NOW + 1e9, limit=10),
    "entities.kinds": lambda b, r: b.entities.kinds(),
    "entities.find": lambda b, r: b.entities.find("wf", limit=10),
    "inquiries.ask": lambda b, r: b.inquiries.ask(NewInquiry(r.id, "wf", "q", b"", NOW + 9), now=NOW),
    "inquiries.answers": lambda b, r: b.inquiries.answers([r.inquiry]),
    "inquiries.forget": lambda b, r: b.inquiries.forget(r.inquiry),
    "queues.all": lambda b, r: b.queues.all(),
    "queues.counts": lambda b, r: b.queues.counts(now=NOW),
    "queues.held": lambda b, r: b.queues.held("default"),
    "queues.standing": lambda b, r: b.queues.standing(r.run),
    "streams.read": lambda b, r: b.streams.read(r.id, "log", after=0, limit=10),
    "streams.names": lambda b, r: b.streams.names(f":a/{r.id}"),
    "quotas.all": lambda b, r: b.quotas.all(),
    "quotas.live": lambda b, r: b.quotas.live("a" if r.id == THEIRS else "nobody"),
    "quotas.measure": lambda b, r: b.quotas.measure("a" if r.id == THEIRS else "nobody", since=0.0),
    "keys.get": lambda b, r: b.keys.get([r.key]),
    "keys.of": lambda b, r: b.keys.of("subject::a/s"),
    "keys.erase": lambda b, r: b.keys.erase(r.key, now=NOW),
    "moving.mark": lambda b, r: b.moving.mark(),
}

#: Parts and verbs that are workers' or operators': refused whatever they are asked.
REFUSED = {
    "": {"claim", "append", "mail", "owned", "register", "heartbeat", "announce", "suspects", "crowd", "bury", "retire",
         "strand"},
    "publications": {"subscribe", "unsubscribe", "pending", "distribute", "forget"},
    "schedules": {"due"},
    "limits": {"turn"},
    "ledger": {"book", "totals", "receive"},
    "quotas": {"set", "take"},
    "budgets": {"define", "reserve"},
    "unbegun": {"mail", "missed", "end"},
    "inquiries": {"waiting", "take", "answer"},
    "queues": {"define", "change"},
    "streams": {"emit", "unsettled", "supersede"},
    "keys": {"obtain", "page", "rewrap"},
    "moving": {"begin", "give_up", "stamps", "read", "put", "switch", "arrive", "drop"},
    "retention": {"turn", "sweeping", "note", "leave", "ended", "orphans", "needed", "remove", "sweep"},
    "resealing": {"pieces", "replace"},
    "disk": {"use", "partition", "tend", "shrink"},
    "namespaces": {"all", "floor", "workflows", "tallies", "of_kind", "finished", "blocked", "ends", "took",
                   "driven_since", "kinds", "entities", "waiting"},
}  # fmt: skip


def _verbs(protocol: Any) -> set[str]:
    return {
        name
        for kind in protocol.__mro__
        for name, member in vars(kind).items()
        if inspect.isfunction(member) and not name.startswith("_")
    } - {"open", "close"}


def _parts() -> dict[str, Any]:
    parts = {
        name: get_type_hints(member.fget)["return"]
        for name, member in vars(Store).items()
        if isinstance(member, property)
    }
    return {"": Store, **parts}


def test_every_verb_is_tried_or_refused() -> None:
    tried = set(TRIES)
    for part, protocol in _parts().items():
        for verb in _verbs(protocol):
            name = f"{part}.{verb}" if part else verb
            assert (name in tried) != (verb in REFUSED.get(part, ())), (
                f"{name}: how is it kept to a namespace?"
            )
    assert not hasattr(ScopedStore, "__getattr__")


@pytest.mark.parametrize("part", REFUSED)
def test_what_is_of_workers_and_operators_is_refused(part: str) -> None:
    async def main() -> None:
        store = ScopedStore(MemoryStore(), "b")
        of: Any = getattr(store, part) if part else store
        for verb in sorted(REFUSED[part]):
            needed = [
                None
                for parameter in inspect.signature(getattr(of, verb)).parameters.values()
                if parameter.default is parameter.empty and parameter.kind is not parameter.KEYWORD_ONLY
            ]
            options = {
                name: None
                for name, parameter in inspect.signature(getattr(of, verb)).parameters.items()
                if parameter.kind is parameter.KEYWORD_ONLY
            }
            with pytest.raises(NamespaceError):
                await getattr(of, verb)(*needed, **options)

    asyncio.run(main())


async def _outcome(attempt: Try, store: ScopedStore, refs: Refs) -> str:
    try:
        found = repr(await attempt(store, refs))
    except UsageError as error:
        found = f"{type(error).__name__}: {error}"
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    assert CANARY not in found
    return re.sub(r"0x\w+|\d+", "N", found.replace("zz", "qq"))


@pytest.mark.parametrize("name", TRIES)
@pytest.mark.parametrize("namespace", ["b", "a.b", "a-b"])
def test_what_another_namespace_has_is_what_nobody_has(name: str, namespace: str) -> None:
    async def main() -> None:
        inner = MemoryStore()
        await inner.open()
        refs = await fill(inner)
        before = await dump(inner, refs)
        nobodys = Refs("zzrun", 1 << 40, b"x" * 32, 1 << 40, "key-9", "zzname")
        theirs = await _outcome(TRIES[name], ScopedStore(inner, namespace), refs)
        assert theirs == await _outcome(TRIES[name], ScopedStore(inner, f"{namespace}2"), nobodys)
        assert await dump(inner, refs) == before

    asyncio.run(main())


def test_the_owner_sees_it_all() -> None:
    """Or the test above would prove nothing."""

    async def main() -> None:
        inner = MemoryStore()
        await inner.open()
        refs = await fill(inner)
        assert (await dump(inner, refs)).count(CANARY) >= 8
        a = ScopedStore(inner, "a")
        assert (await a.inquiries.answers([refs.inquiry])) == [None]  # another object has asked
        assert await a.callbacks.get(refs.token) is not None

    asyncio.run(main())


# -- names ----------------------------------------------------------------------------------------------

_HOSTILE = st.one_of(
    st.text(max_size=80),
    st.text(alphabet=":/a.b-\x00\u200b\u212aA\u0131", max_size=12),
    st.sampled_from([":a/r", "a/r", "/r", ":a", "::a/r", ":a//r", "r", "", ":", "/", "a" * 5000, "../a/r"]),
)


@given(st.text(max_size=70))
def test_what_names_a_namespace_can_be_taken_apart(name: str) -> None:
    try:
        check_namespace(name)
    except UsageError:
        return
    assert re.fullmatch(r"[a-z0-9._-]{1,63}", name)
    assert namespace_of(prefix_for(name) + "x") == name


@pytest.mark.parametrize(
    "name", ["", "A", "a/b", "a:b", ":a", ".a", "a.", "a b", "ä", "a\n", "a" * 64, "\u0430", "a\x00", "*"]
)
def test_what_cannot_name_a_namespace(name: str) -> None:
    with pytest.raises(UsageError):
        ScopedStore(MemoryStore(), name)


@given(
    _HOSTILE, st.sampled_from(["a", "a.b", "a-b", "ab", "b"]), st.sampled_from(["a", "a.b", "a-b", "ab", "b"])
)
def test_whatever_an_id_is_it_stays_in_its_namespace(id: str, mine: str, other: str) -> None:
    stored = prefix_for(mine) + id
    assert (prefix_of(stored), short(stored)) == (prefix_for(mine), id)
    assert stored.startswith(prefix_for(other)) == (mine == other)


@settings(max_examples=40, deadline=None)
@given(st.lists(_HOSTILE, min_size=1, max_size=5, unique=True))
def test_runs_of_any_names_are_kept_apart(ids: list[str]) -> None:
    async def main() -> None:
        inner = MemoryStore()
        await inner.open()
        names = ("a", "a.b", "ab")
        for name in names:
            await ScopedStore(inner, name).create([_new(id, key=name) for id in ids])
        for name in names:
            store = ScopedStore(inner, name)
            assert sorted(row.id for row in await store.find(RunFilter())) == sorted(ids)
            assert {row.key for row in await store.find(RunFilter())} == {name}
            assert [row and row.id for row in await store.get(ids)] == ids

    asyncio.run(main())


# -- what is mapped -------------------------------------------------------------------------------------


def test_every_kind_of_effect_is_thought_about() -> None:
    import perdure.storage.urls  # noqa: F401 - all that define some are there

    def kinds(of: type[Effect]) -> set[type[Effect]]:
        return {kind for sub in of.__subclasses__() for kind in {sub, *kinds(sub)}}

    ours = {kind for kind in kinds(Effect) if kind.__module__.startswith("perdure.")}
    assert ours == set(mapping._WAYS)


def test_every_field_of_a_new_run_is_thought_about() -> None:
    """A field that names something has to get the namespace in `run_within`."""
    named = {"id", "key", "dedup", "donor", "subject"}
    plain = {
        "workflow", "fingerprint", "first_event", "queue", "created_at", "wake_at", "owner", "parent", "parent_op",
        "on_parent_close", "mail", "attach", "generation", "follows", "inherit", "attributes", "pinned", "priority",
        "debounce", "at_most", "slot",
    }  # fmt: skip
    assert set(NewRun.__struct_fields__) == named | plain
    new = _new("r", key="k", dedup="d", donor="o", subject="s", mail=[NewMail(b"m")])
    inside = mapping.run_within(new, ":a/")
    assert {name for name in new.__struct_fields__ if getattr(new, name) != getattr(inside, name)} == named
    assert UpdateRow.__struct_fields__[:1] == ("run_id",)
    assert Book.__struct_fields__ == ("entries", "closes", "loses", "run", "held")


def test_nothing_of_it_is_on_disk_under_a_bare_name(tmp_path: Path) -> None:
    """What a namespace brings in is stored with its prefix, in every table that has names."""

    async def main() -> list[str]:
        from perdure.storage.sqlite import SqliteStore

        store = SqliteStore(tmp_path / "a.db")
        await store.open()
        await fill(store)
        await store.close()
        import apsw

        connection = apsw.Connection(str(tmp_path / "a.db"))
        named = {
            "runs": ("id", "key"), "streams": ("id",), "updates": ("run_id",), "inquiries": ("run_id",),
            "schedules": ("name",), "publications": ("name", "id"), "checkpoints": ("thread", "made_by"),
            "checkpoint_values": ("thread",),
        }  # fmt: skip
        return [
            value
            for table, columns in named.items()
            for column in columns
            for (value,) in connection.execute(f"SELECT {column} FROM {table}")
        ]

    values = asyncio.run(main())
    assert len(values) >= 10
    assert all(value.startswith(":a/") for value in values), values
