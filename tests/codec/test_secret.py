"""What becomes of a Secret wherever values go: a reference, or nothing."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import os
import pickle
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import msgspec
import pydantic
import pytest

import perdure
from perdure import Secret
from perdure.codec.arguments import Arguments
from perdure.codec.fitting import misfits
from perdure.codec.foreign import encode_json
from perdure.codec.forms import schema_of
from perdure.codec.redaction import forget_all
from perdure.codec.secret_sources import unrestricted
from perdure.codec.values import ValueCodec
from perdure.errors import ConfigurationError, NotSerializableError, SecretUnavailableError, UndecodableError

CANARY = 'canary/of+this "test"\\ü-0123456789'


@pytest.fixture(autouse=True)
def canary(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CANARY", CANARY)
    yield
    forget_all()
    unrestricted()


class Struct(msgspec.Struct):
    key: Secret[str]
    other: Secret[bytes] | None = None


@dataclasses.dataclass
class Data:
    key: Secret[str]
    many: list[Secret[str]] = dataclasses.field(default_factory=list[Secret[str]])


class Model(pydantic.BaseModel):
    key: Secret[str]


class Typed(TypedDict):
    key: Secret[str]


class Named(NamedTuple):
    key: Secret[str]


def in_shapes(key: Secret[str]) -> list[tuple[Any, Any]]:
    """Types, and values of them with the secret inside."""
    return [
        (Secret[str], key),
        (Secret, key),
        (Struct, Struct(key)),
        (Data, Data(key, [key, key])),
        (Model, Model(key=key)),
        (Typed, Typed(key=key)),
        (Named, Named(key)),
        (dict[str, Secret[str]], {"a": key}),
        (tuple[Secret[str], int], (key, 1)),
        (Secret[str] | None, key),
        (list[Model], [Model(key=key)]),
    ]


def test_what_is_recorded_is_a_reference_in_every_shape() -> None:
    for kind, value in in_shapes(Secret.env("CANARY")):
        codec = ValueCodec[Any](kind, "result of step app.it")
        data, decoded = codec.record(value)
        assert b'{"from":"env","name":"CANARY"}' in data, kind
        assert decoded == value
        assert codec.decode(data) == value


def test_a_bare_value_is_refused_in_every_shape_with_its_place_and_what_to_do() -> None:
    for kind, value in in_shapes(Secret(CANARY)):
        with pytest.raises(NotSerializableError, match="bare value has no reference") as refused:
            ValueCodec[Any](kind, "result of step app.it").record(value)
        told = "".join(traceback.format_exception(refused.value))
        assert "result of step app.it" in told
        assert "Secret.env(" in told
        assert "canary" not in told, told


def test_a_call_s_bytes_hold_the_reference_and_so_does_its_fingerprint() -> None:
    def charge(key: Secret[str], *, data: Data) -> None: ...

    arguments = Arguments(charge, "step app.charge")
    key = Secret.env("CANARY")
    first = arguments.record((key,), {"data": Data(key)})[0]
    os.environ["CANARY"] = "rotated-0123456789"
    assert arguments.record((key,), {"data": Data(key)})[0] == first
    with pytest.raises(NotSerializableError, match=r"argument 'key' of step app\.charge"):
        arguments.record((Secret(CANARY),), {"data": Data(key)})


def leaks(of: Secret[str]) -> Iterator[tuple[str, Callable[[], object]]]:
    """Ways in which values get out of objects."""
    yield "repr", lambda: repr(of)
    yield "str", lambda: str(of)
    yield "f-string", lambda: f"{of} {of!r} {of!s:>100}"
    yield "percent", lambda: "%s %r" % (of, of)  # noqa: UP031
    yield "in containers", lambda: repr([of, {"a": of}, Data(of), Struct(of), Model(key=of), Named(of)])
    yield "json", lambda: json.dumps({"a": of})
    yield "json, with a default", lambda: json.dumps({"a": of}, default=str)
    yield "msgspec", lambda: msgspec.json.encode(Struct(of))
    yield "msgpack", lambda: msgspec.msgpack.encode([of])
    yield "msgspec's builtins", lambda: msgspec.to_builtins(of)
    yield "with our hook", lambda: encode_json(of)
    yield "pydantic", lambda: Model(key=of).model_dump_json()
    yield "pydantic's dict", lambda: repr(Model(key=of).model_dump())
    yield "pydantic's JSON-able dict", lambda: Model(key=of).model_dump(mode="json")
    yield "dataclasses", lambda: repr(dataclasses.asdict(Data(of)))
    yield "pickle", lambda: pickle.dumps(of)
    yield "pickle of what holds it", lambda: pickle.dumps(Data(of))
    yield "its state", lambda: of.__getstate__()
    yield "slots", lambda: repr([getattr(of, name) for name in Secret.__slots__])
    yield "vars", lambda: vars(of)
    yield "dir", lambda: repr({name: getattr(of, name) for name in dir(of) if not name.startswith("__")})
    yield "iter", lambda: list(of)  # type: ignore[call-overload]
    yield "bytes", lambda: bytes(of)  # type: ignore[call-overload]
    yield "locals in a traceback", lambda: with_locals(of)
    yield "a log record", lambda: logging.makeLogRecord({"msg": "%s", "args": (of,)}).getMessage()


def with_locals(of: Secret[str]) -> str:
    held = {"a": of}
    try:
        raise ValueError(of, held)
    except ValueError as error:
        return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


@pytest.mark.parametrize("make", [lambda: Secret.env("CANARY"), lambda: Secret(CANARY)], ids=["env", "bare"])
def test_no_way_out_holds_the_value(make: Callable[[], Secret[str]]) -> None:
    of = make()
    assert of.reveal() == CANARY
    for name, way in leaks(of):
        try:
            out = way()
        except Exception as error:
            out = "".join(traceback.format_exception(error))
        told = out if isinstance(out, bytes) else str(out).encode()
        assert b"0123456789" not in told.replace(b"canary/of+this", b"0123456789"), name
    forget_all()
    with pytest.raises(AssertionError):  # the search does find it
        assert b"0123456789" not in str(of.reveal()).encode()


def test_copies_and_pickles_of_a_reference_are_references() -> None:
    of = Secret.env("CANARY", bytes)
    assert copy.copy(of) is of
    assert copy.deepcopy([of])[0] is of
    assert pickle.loads(pickle.dumps(of)) == of
    assert {of: 1}[Secret.env("CANARY", bytes)] == 1
    assert of == Secret.env("CANARY") != Secret.env("ANOTHER")
    assert Secret("abc") == Secret("abc") != Secret("abd")
    with pytest.raises(NotSerializableError):
        pickle.dumps(Secret("abc"))
    with pytest.raises(AttributeError):
        of._name = "OTHER"  # type: ignore[misc]


def test_it_is_looked_up_anew_each_time_and_read_as_its_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = Secret.env("CANARY")
    assert of.reveal() == CANARY
    monkeypatch.setenv("CANARY", "rotated")
    assert of.reveal() == "rotated"
    assert Secret.env("CANARY", bytes).reveal() == b"rotated"
    path = tmp_path / "key"
    path.write_bytes(b'{"user": "a", "password": "b"}\n')
    assert Secret.file(path).reveal() == '{"user": "a", "password": "b"}'
    assert Secret.file(path, bytes).reveal().endswith(b"\n")
    assert Secret.file(path, dict[str, str]).reveal() == {"user": "a", "password": "b"}
    with pytest.raises(SecretUnavailableError, match=r"can't be read as int") as refused:
        Secret.file(path, int).reveal()
    assert "password" not in "".join(traceback.format_exception(refused.value))
    with pytest.raises(SecretUnavailableError, match="no environment variable ELSEWHERE"):
        Secret.env("ELSEWHERE").reveal()
    with pytest.raises(SecretUnavailableError, match="No such file"):
        Secret.file("/nowhere/at/all").reveal()
    with pytest.raises(ConfigurationError, match="absolute"):
        Secret.file("key")


def test_resolvers_of_one_s_own() -> None:
    asked: list[str] = []

    def vault(name: str) -> str:
        asked.append(name)
        return f"value of {name}"

    perdure.secrets.register("vault-of-tests", vault)
    perdure.secrets.register("vault-of-tests", vault)
    of = Secret.of("vault-of-tests", "payments#key")
    assert not asked
    assert of.reveal() == "value of payments#key"
    with pytest.raises(ConfigurationError, match="choose another"):
        perdure.secrets.register("env", vault)
    with pytest.raises(ConfigurationError, match="small letters"):
        perdure.secrets.register("Vault!", vault)
    with pytest.raises(SecretUnavailableError, match="no resolver 'nobody'"):
        Secret.of("nobody", "x").reveal()


def test_a_process_may_say_which_secrets_it_resolves(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "key").write_text("fine")
    (tmp_path / "other").write_text("not for runs")
    (tmp_path / "run" / "link").symlink_to(tmp_path / "other")
    perdure.secrets.restrict(env=["CAN*"], file=[f"{tmp_path}/run/*"])
    assert Secret.env("CANARY").reveal() == CANARY
    assert Secret.file(tmp_path / "run" / "key").reveal() == "fine"
    for refused in (
        Secret.env("PATH"),
        Secret.file(tmp_path / "run" / ".." / "other"),
        Secret.file(tmp_path / "run" / "link"),
        Secret.file("/etc/passwd"),
        Secret.of("vault", "x"),
    ):
        with pytest.raises(SecretUnavailableError):
            refused.reveal()


def test_a_value_in_the_place_of_a_reference_is_refused_and_not_repeated() -> None:
    for kind in (Secret[str], Struct, Data, Model):
        for value in (
            '"sk-live-0123456789"',
            '{"from":"env"}',
            '{"value":"0123456789"}',
        ):
            whole = value if kind == Secret[str] else f'{{"key":{value}}}'
            with pytest.raises(UndecodableError, match="never taken") as refused:
                ValueCodec[Any](kind, "argument").decode(whole.encode())
            assert "0123456789" not in str(refused.value)
    schema = schema_of(Struct)
    found = misfits({"key": "sk_live_0123456789", "other": None}, schema)
    assert [misfit.field for misfit in found] == ["key"]
    assert "0123456789" not in found[0].problem
    assert (
        misfits({"key": {"from": "env", "name": "X"}, "other": {"from": "file", "name": "/x"}}, schema) == []
    )


@pytest.mark.parametrize("kind", [Secret[str], Struct, Model, Data])
def test_forms_ask_for_where_it_is(kind: Any) -> None:
    told = json.dumps(schema_of(kind))
    assert '"x-perdure-secret": true' in told
    assert '"required": ["from", "name"]' in told
    assert "never its value" in told
