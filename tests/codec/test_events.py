"""The bytes of events: they round-trip, never surprise a reader, and are readable for ever.

`tests/golden/events-v1.json` holds what released versions wrote. It is only ever added to: when an event kind
or a sample is new, run this file as a script to append what is missing. What is there stays as it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.codec import events as codec
from perdure.codec.events import decode_event, encode_event
from perdure.core import events as ev
from perdure.core.edits import Edit
from perdure.core.events import Event, Failure
from perdure.core.tracing import TraceContext
from perdure.errors import NotSerializableError, UndecodableError

GOLDEN = Path(__file__).parent.parent / "golden" / "events-v1.json"
KINDS: dict[str, type[Any]] = {cls.__struct_config__.tag: cls for cls in get_args(Event)}

_INNER = Failure(type="builtins.OSError", message="[Errno 2] no", args=b'[2,"no"]')
_FAILURE = Failure(
    type="app.CardDeclined",
    message="declined: 51",
    args=b'["declined: 51"]',
    state=b'{"code":51}',
    traceback="Traceback ...",
    notes=("tried twice",),
    cause=_INNER,
    members=(_INNER,),
)

_PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

#: Each kind with all of its fields set, and each that has defaults also without them.
SAMPLES: list[Event] = [
    ev.RunStarted(at=1.5, workflow="app.research", input=b'[["x"],{}]', seed=b"\x00\xff"),
    ev.RunStarted(1.5, "app.research", b"[[],{}]", b"s", parent="r-0", parent_op="app.child#1", deadline=9.0),
    ev.RunRecovered(at=2.0, worker="host/1", epoch=3),
    ev.StepStarted(at=2.0, step="app.fetch#1", attempt=1),
    ev.StepAttemptFailed(3.0, step="app.fetch#1", attempt=1, failure=_FAILURE, retry_at=4.0, started_at=2.0),
    ev.StepCompleted(at=3.0, step="app.fetch#1", attempt=2, started_at=2.0, result=b'"page"'),
    ev.StepCompleted(3.0, "app.fetch#1", 2, 2.0, b"1", input=b"[[],{}]", fingerprint=bytes(range(16))),
    ev.StepFailed(at=3.0, step="app.fetch#1", attempt=2, started_at=2.0, failure=_INNER),
    ev.StepFailed(3.0, "app.fetch#1", 2, 2.0, _FAILURE, input=b"[[],{}]", fingerprint=bytes(range(16))),
    ev.TimerStarted(at=3.0, timer="sleep#1", due=63.0),
    ev.TimerFired(at=63.0, timer="sleep#1"),
    ev.OperationDropped(at=64.0, operation="timeout:1"),
    ev.ChildStarted(at=4.0, child="app.child#1", run="r-1/app.child#1", workflow="app.child"),
    ev.ChildStarted(
        4.0, "app.child#1", "r-2", "app.child", "abandon", input=b"[[],{}]", fingerprint=b"f" * 16
    ),
    ev.ChildEnded(at=5.0, child="app.child#1", status="completed", result=b"null"),
    ev.ChildEnded(at=5.0, child="app.child#1", status="failed", failure=_FAILURE),
    ev.CancelRequested(at=6.0),
    ev.CancelRequested(at=6.0, reason="no longer needed"),
    ev.DeadlinePassed(at=7.0),
    ev.RunCompleted(at=8.0, result=b'{"title":"tardigrades"}'),
    ev.RunFailed(at=8.0, failure=_FAILURE),
    ev.RunFailed(at=8.0, failure=_INNER, timed_out=True),
    ev.RunCancelled(at=8.0),
    ev.RunCancelled(at=8.0, reason="stop"),
    ev.RunTerminated(at=8.0),
    ev.RunTerminated(at=8.0, reason="stop now"),
    ev.RunStarted(at=1.0, workflow="app.counts", input=b"[[],{}]", seed=b"s" * 32, generation=2, keys=2),
    ev.RunStarted(
        at=1.0,
        workflow="app.counts",
        input=b"[[],{}]",
        seed=b"seed",
        donor=ev.Donor("r-1", 1, 0.5, 7, {"app.a#1": b"1"}, {"app.b#1": b"[[2],{}]"}),
    ),
    ev.RunStarted(at=1.0, workflow="m.w", input=b"[[],{}]", seed=b"s" * 32, schedule="nightly", slot=1.7e9),
    ev.RunStarted(at=1.0, workflow="m.w", input=b"[[],{}]", seed=b"s" * 16, attributes=b'{"customer":"x"}'),
    ev.RunRecovered(at=2.0, worker="w1", epoch=3, version="2026-05-04"),
    ev.StepParked(3.0, "app.pay#1", attempt=1, started_at=2.0, why="its worker was lost", unknown=True),
    ev.StepParked(3.0, "app.pay#1", 3, 2.0, "attempt 3 was the last of 3", failure=_INNER, input=b"[[],{}]"),
    ev.StepParked(
        9.0, "s#9", 0, 9.0, "1 USD of 1 USD are spent", budget=ev.Overdrawn("b", "r-1", "2026-11-28", 10.0)
    ),
    ev.StepParked(1.0, "app.mail#1", 0, 1.0, "why", failure=_INNER, refused=True),
    ev.StepRerun(at=10.0, step="s#9", raised=True),
    ev.StepCompleted(1.0, "app.mail#1", 1, 1.0, b'"x"', b'[["y"],{}]', stubbed=True),
    ev.StepFailed(1.0, "app.pay#1", 1, 0.5, _INNER, b"[[5],{}]", reused=True),
    ev.MessageSent(1.0, message="send:1", run="r-2", name="word", payload=b"1", withheld=True),
    ev.MessageRefused(1.0, message="send:1", run="r-2", name="word", why="run_ended", reused=True),
    ev.Published(1.0, "publish:1", "order.paid", payload=b"1", withheld=True),
    ev.RunStarted(
        1.0,
        "app.w",
        b"[[],{}]",
        b"seed",
        donor=ev.Donor(
            "r-1",
            1,
            0.5,
            edits=(Edit("ask", parts=(("model", b'"small"'),), text=(("a", "b"),)),),
            counterfactual=ev.Counterfactual({"mail": b'"x"'}, recorded=True, fails=True),
        ),
    ),
    ev.QuestionAsked(
        at=8.0, op="ask:1", question=ev.Question(id="q_abc", text="Publish?", form=b'{"type":"boolean"}')
    ),
    ev.QuestionAsked(
        at=8.0,
        op="approval[call-7]",
        timeout=60.0,
        question=ev.Question(
            id="q_abc",
            text="Pay?",
            form=b'{"type":"boolean"}',
            details=b'{"cents":5}',
            default=b"true",
            to="ann",
            digest="00ff",
            step="app.pay[call-7]",
            problem="7 is odd",
        ),
    ),
    ev.QuestionAnswered(at=9.0, callback="ask:1", result=b"true", answered_at=8.5, by="ann", via="cli"),
    ev.QuestionAnswered(at=9.0, callback="ask:1", failure=_INNER, answered_at=8.5, given=b'"x"'),
    ev.QuestionWithdrawn(at=9.0, op="ask:1"),
    ev.StepRerun(at=4.0, step="app.pay#1"),
    ev.StepRerun(at=4.0, step="app.pay#1", decision=ev.Decision(by="ann", why="it didn't happen")),
    ev.StepCompleted(4.0, "app.pay#1", 1, 2.0, b'"receipt"', decision=ev.Decision("ann", "on the statement")),
    ev.StepCompleted(at=1.0, step="app.a#1", attempt=1, started_at=0.5, result=b"1", reused=True),
    ev.StepFailed(4.0, "app.pay#1", 1, 2.0, _INNER, decision=ev.Decision()),
    ev.TimerFired(at=1.0, timer="sleep:1", reused=True),
    ev.ChildEnded(at=1.0, child="app.c#1", status="completed", result=b"1", reused=True),
    ev.MessageReceived(at=6.0, name="approval", payload=b"true"),
    ev.MessageReceived(at=6.0, name="approval", payload=b"true", key="mail-81", sender="r-2"),
    ev.MessageReceived(at=1.0, name="n", payload=b"1", reused=True),
    ev.MessageAwaited(at=6.0, receive="receive:1", name="approval"),
    ev.MessageSetAside(at=6.0, op="message:4", why="it can't be read as `int`"),
    ev.MessageSent(at=6.0, message="send:1", run="r-2", name="refund", payload=b"5"),
    ev.MessageSent(at=6.0, message="send:1", run="r-2", name="refund", fingerprint=b"f" * 16),
    ev.MessageRefused(at=6.0, message="send:1", run="r-2", name="refund", why="unknown_run"),
    ev.UpdateAccepted(at=2.0, update="update[k]", name="add", input=b'[["milk"],{}]'),
    ev.UpdateCompleted(at=3.0, op="update[k]", result=b"1"),
    ev.UpdateCompleted(at=3.0, op="update[k]", failure=_INNER),
    ev.CallbackOpened(at=7.0, op="callback:1"),
    ev.CallbackOpened(at=7.0, op="callback:1", timeout=60.0, heartbeat=5.0),
    ev.CallbackEnded(at=8.0, callback="callback:1", result=b'{"ok":true}'),
    ev.CallbackEnded(at=8.0, callback="callback:1", failure=_FAILURE),
    ev.CallbackEnded(at=8.0, callback="callback:1", failure=_INNER, timed_out=True),
    ev.Emitted(at=3.0, op="emit:1", stream="words", item=b'"x"'),
    ev.AttributesSet(at=3.0, op="attributes:1", values=b'{"customer":"x","gone":null}'),
    ev.AttributesSet(at=3.0, op="", values=b'{"note":"from outside"}'),
    ev.Patched(at=3.0, op="patch:look names up"),
    ev.Checkpointed(at=1.0, op="checkpoint:7", state=b'{"items":[]}', seed=b"s" * 32),
    ev.RunPaused(at=1.0),
    ev.RunPaused(at=1.0, reason="look"),
    ev.RunResumed(at=1.0),
    ev.CancelRequested(at=6.0, reason="no longer needed", terminate=True),
    ev.RunCompleted(at=8.0, result=b"null", unread=(3, 4)),
    ev.RunFailed(at=8.0, failure=_INNER, unread=(3,)),
    ev.RunCancelled(at=8.0, unread=(3,)),
    ev.RunTerminated(at=8.0, reason="stop now", failure=_FAILURE, unread=(3, 5)),
    ev.RunContinued(at=1.0, workflow="app.counts", input=b"[[7],{}]"),
    ev.StepSent(
        at=2.0,
        step="app.render#1",
        attempt=1,
        queue="gpu",
        run="r-1/app.render#1@0a1b",
        fingerprint=bytes(range(16)),
    ),
    ev.ErrandEnded(
        3.0, "app.render#1", "r-1/a", 1, 2.0, result=b'"x"', emitted=True, detail=b"7", detail_at=2.5
    ),
    ev.ErrandEnded(
        3.0,
        "app.render#1",
        "r-1/a",
        2,
        2.0,
        failure=_INNER,
        kinds=("builtins.ValueError",),
        http_status=429,
        retry_after=1.5,
    ),
    ev.ErrandEnded(
        3.0, "app.render#1", "r-1/a", 2, 2.0, failure=_INNER, doubt="its worker was lost", gives_up=True
    ),
    ev.StepDelayed(3.0, step="app.ask#1", until=9.5, limit="openai:gpt"),
    ev.StepDelayed(3.0, "app.ask#1", 9.5, "openai:gpt", failure=_FAILURE, started_at=2.0),
    ev.PublicationAwaited(3.0, "event:1", "order.paid"),
    ev.PublicationAwaited(
        3.0,
        "1.2/event:1",
        "order.paid",
        where='{"customer":"c-7"}',
        since=1.0,
        after=7,
        timeout=60.0,
        reused=True,
    ),
    ev.PublicationArrived(4.0, "event:1", "order.paid", 1700000000000000, 3.5, payload=b"{}", key="o-7"),
    ev.PublicationArrived(4.0, "event:1", "order.paid", 8, 3.5, unread="it isn't an Order", reused=True),
    ev.PublicationGivenUp(5.0, "event:1"),
    ev.Published(5.0, "publish:1", "order.paid", payload=b"1"),
    ev.Published(5.0, "publish:2", "order.paid", key="k", fingerprint=bytes(range(16))),
    ev.RunStarted(
        1.0, "m.w", b"[[1],{}]", b"seed", heard=ev.Heard(1.0, {"order.paid": 7}, event="order.paid")
    ),
    ev.RunStarted(1.0, "m.w", b"[[1],{}]", b"seed", trace=TraceContext(_PARENT, "a=b", link=True)),
    ev.StepRerun(at=4.0, step="app.pay#1", decision=ev.Decision("ann"), started_at=2.0),
    ev.StepRerun(at=4.0, step="app.pay#1", decision=ev.Decision("ann", since=3.0), started_at=2.0),
    ev.RunStarted(1.0, "m.w", b"[[1],{}]", b"seed", donor=ev.Donor("r/m.w#1", 1, 0.5), keys_of="r/m.w#1"),
]


def golden() -> list[dict[str, Any]]:
    return json.loads(GOLDEN.read_text()) if GOLDEN.exists() else []


def add_missing() -> int:
    """Append the samples that the golden file lacks; what it has is left alone."""
    entries = golden()
    known = {entry["hex"] for entry in entries}
    new = [event for event in SAMPLES if encode_event(event).hex() not in known]
    entries += [{"event": msgspec.to_builtins(event), "hex": encode_event(event).hex()} for event in new]
    GOLDEN.write_text("[\n" + ",\n".join(json.dumps(entry) for entry in entries) + "\n]\n")
    return len(new)


def test_what_was_once_written_is_read_as_the_same_for_ever():
    for entry in golden():
        assert decode_event(bytes.fromhex(entry["hex"])) == msgspec.convert(entry["event"], Event)


def test_every_kind_of_event_has_golden_bytes():
    written = {entry["event"]["kind"] for entry in golden()}
    assert written == set(KINDS), f"run `python {Path(__file__).name}` to add the missing ones"


def test_every_sample_has_golden_bytes():
    written = {entry["hex"] for entry in golden()}
    assert all(encode_event(event).hex() in written for event in SAMPLES)


# -- round trips ----------------------------------------------------------------------------------------

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_failures = st.recursive(
    st.builds(Failure, type=_texts, message=_texts, args=st.none() | st.binary(max_size=9)),
    lambda inner: st.builds(
        Failure,
        type=_texts,
        message=_texts,
        cause=st.none() | inner,
        members=st.lists(inner, max_size=2).map(tuple),
    ),
    max_leaves=4,
)
_edits = st.builds(
    Edit,
    _texts,
    st.none() | st.binary(max_size=9),
    st.none() | st.binary(max_size=9),
    st.lists(st.tuples(_texts, st.binary(max_size=9)), max_size=2).map(tuple),
    st.lists(st.tuples(_texts, _texts), max_size=2).map(tuple),
)

_fields: dict[Any, st.SearchStrategy[Any]] = {
    str: _texts,
    bytes: st.binary(max_size=20),
    int: st.integers(0, 2**31),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    type(None): st.none(),
    Failure: _failures,
    tuple[int, ...]: st.lists(st.integers(0, 2**31), max_size=3).map(tuple),
    ev.Overdrawn: st.builds(ev.Overdrawn, _texts, _texts, _texts, st.none() | st.floats(allow_nan=False)),
    ev.Question: st.builds(
        ev.Question,
        _texts,
        _texts,
        st.binary(max_size=9),
        st.none() | st.binary(max_size=9),
        to=st.none() | _texts,
    ),
    ev.Decision: st.builds(ev.Decision, st.none() | _texts, st.none() | _texts),
    ev.Donor: st.builds(
        ev.Donor,
        run=_texts,
        generation=st.integers(1, 9),
        began=st.floats(allow_nan=False),
        upto=st.none() | st.integers(1, 99),
        results=st.dictionaries(_texts, st.binary(max_size=9), max_size=2),
        inputs=st.dictionaries(_texts, st.binary(max_size=9), max_size=2),
        edits=st.lists(_edits, max_size=2).map(tuple),
        counterfactual=st.none()
        | st.builds(
            ev.Counterfactual,
            st.dictionaries(_texts, st.binary(max_size=9), max_size=2),
            st.booleans(),
            st.booleans(),
        ),
    ),
    ev.Heard: st.builds(
        ev.Heard,
        since=st.floats(allow_nan=False),
        numbers=st.dictionaries(_texts, st.integers(0, 2**62), max_size=2),
        event=st.none() | _texts,
    ),
    TraceContext: st.builds(TraceContext, _texts, _texts, st.booleans()),
}


@st.composite
def events(draw: st.DrawFn) -> Event:
    cls = draw(st.sampled_from(list(KINDS.values())))
    values = {}
    for field in msgspec.structs.fields(cls):
        union = isinstance(field.type, UnionType)
        types = get_args(field.type) if union else (field.type,)
        values[field.name] = draw(st.one_of([_fields[kind] for kind in types]))
    return cls(**values)


@given(events())
def test_an_event_comes_back_as_it_was(event: Event):
    data = encode_event(event)
    assert data[0] == codec.FORMAT_VERSION
    assert decode_event(data) == event
    assert type(decode_event(data)) is type(event)


def test_a_field_added_later_is_skipped_by_older_code():
    fields = {"kind": "timer_fired", "at": 1.0, "timer": "sleep#1", "colour": "blue"}
    assert decode_event(b"\x01" + msgspec.msgpack.encode(fields)) == ev.TimerFired(at=1.0, timer="sleep#1")


def test_a_text_that_utf8_cannot_express_is_refused_when_writing():
    with pytest.raises(NotSerializableError, match=r"CancelRequested.*surrogate.*Repair"):
        encode_event(ev.CancelRequested(at=1.0, reason="\ud800"))


# -- other formats --------------------------------------------------------------------------------------


def test_a_newer_format_asks_for_an_upgrade():
    data = bytes([codec.FORMAT_VERSION + 1]) + encode_event(SAMPLES[0])[1:]
    with pytest.raises(UndecodableError, match=r"format 2.*up to 1.*newer Perdure.*Upgrade"):
        decode_event(data)


def test_an_unknown_older_format_is_damage():
    with pytest.raises(UndecodableError, match=r"format 0.*damaged.*backup"):
        decode_event(b"\x00" + encode_event(SAMPLES[0])[1:])


def test_an_upcaster_lifts_an_older_format(monkeypatch: pytest.MonkeyPatch):
    def name_the_timer(old: dict[str, Any]) -> dict[str, Any]:
        return {"kind": "timer_fired", "at": old["when_ms"] / 1000, "timer": f"sleep#{old['n']}"}

    monkeypatch.setitem(codec.UPCASTERS, 0, name_the_timer)
    data = b"\x00" + msgspec.msgpack.encode({"when_ms": 1500, "n": 7})
    assert decode_event(data) == ev.TimerFired(at=1.5, timer="sleep#7")


def test_an_upcaster_that_stumbles_over_damage_is_reported_as_damage(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(codec.UPCASTERS, 0, lambda old: old["missing"])
    with pytest.raises(UndecodableError, match="damaged"):
        decode_event(b"\x00\x80")


# -- damage ---------------------------------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_random_bytes_are_undecodable_and_nothing_else(data: bytes):
    with pytest.raises(UndecodableError):
        decode_event(data)
    with pytest.raises(UndecodableError):
        decode_event(b"\x01" + data)


@given(st.sampled_from(SAMPLES), st.data())
def test_damaged_bytes_give_an_event_or_an_undecodable_error(event: Event, data: st.DataObject):
    damaged = bytearray(encode_event(event))
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] ^= data.draw(st.integers(1, 255))
    try:
        decoded = decode_event(bytes(damaged))
    except UndecodableError:
        return
    assert type(decoded) in KINDS.values()


@given(st.sampled_from(SAMPLES), st.data())
def test_truncated_bytes_are_undecodable(event: Event, data: st.DataObject):
    whole = encode_event(event)
    with pytest.raises(UndecodableError):
        decode_event(whole[: data.draw(st.integers(0, len(whole) - 1))])


def test_nesting_without_end_is_undecodable():
    failure = b"\x83\xa4type\xa0\xa7message\xa0\xa5cause"
    data = b"\x01\x83\xa4kind\xaarun_failed\xa2at\x00\xa7failure" + failure * 100_000
    with pytest.raises(UndecodableError):
        decode_event(data)


if __name__ == "__main__":
    print(f"added {add_missing()} events to {GOLDEN.name}")
