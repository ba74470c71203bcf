"""Codecs by themselves: what they refuse, and that nothing can be read in another place."""

from __future__ import annotations

import os
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import CannotOpen, Codec, Compression, Encryption, KeyRing, Place, SealedError, events
from perdure.codec.events import decode_event, encode_event, view_event
from perdure.codec.sealing.chain import Chain
from perdure.codec.sealing.envelope import head_of, padded, split
from perdure.codec.sealing.keys import new_key
from perdure.errors import ConfigurationError, UndecodableError
from perdure.storage.memory import MemoryStore
from perdure.storage.sealing.vault import Vault

KEYS = {"a": bytes(32), "b": bytes(range(32))}
EVENT = encode_event(events.TimerFired(at=7.5, timer="sleep:1"))


def vault(keys: dict[str, bytes] = KEYS, namespace: str = "") -> Vault:
    return Vault([Compression(above=10), Encryption(KeyRing(keys))], namespace)


def test_an_event_opens_in_its_place_and_in_no_other() -> None:
    sealed = vault().event(EVENT, "r", 1, 3, None)
    assert vault().open_event(sealed, "r", 1, 3) == EVENT
    for id, generation, seq in (("s", 1, 3), ("r", 2, 3), ("r", 1, 4)):
        with pytest.raises(CannotOpen):
            vault().open_event(sealed, id, generation, seq)
    with pytest.raises(CannotOpen):
        vault(namespace="other").open_event(sealed, "r", 1, 3)
    with pytest.raises(CannotOpen):
        vault().open_mail(sealed, "r")


@given(st.integers(0, 200), st.integers(0, 7))
def test_whichever_bit_is_changed_it_does_not_open_as_something_else(place: int, bit: int) -> None:
    sealed = bytearray(vault().event(EVENT, "r", 1, 3, None))
    place %= len(sealed)
    sealed[place] ^= 1 << bit
    try:
        opened = vault().open_event(bytes(sealed), "r", 1, 3)
    except (CannotOpen, UndecodableError):
        return
    assert place >= len(sealed) - 4  # the pad, which only the checksum sees
    assert opened == EVENT


def test_the_head_is_in_the_clear_and_bound() -> None:
    sealed = vault().event(EVENT, "r", 1, 3, None)
    head = head_of(sealed)
    assert (head.kind, head.at, head.op, head.seq, head.key) == ("timer_fired", 7.5, "sleep:1", 3, "b")
    shown = view_event(sealed)
    assert isinstance(shown, events.Sealed)
    assert (shown.what, shown.op, shown.key, shown.at) == ("timer_fired", "sleep:1", "b", 7.5)
    with pytest.raises(SealedError, match="'b'"):
        decode_event(sealed)


def test_the_same_payload_never_looks_the_same() -> None:
    assert len({vault().event(EVENT, "r", 1, 3, None) for _ in range(50)}) == 50


def test_a_missing_key_is_named_and_a_wrong_one_is_damage() -> None:
    sealed = vault().event(EVENT, "r", 1, 3, None)
    with pytest.raises(CannotOpen, match="'b', which isn't in the key ring") as missing:
        vault({"a": KEYS["a"]}).open_event(sealed, "r", 1, 3)
    assert not missing.value.damaged
    with pytest.raises(CannotOpen, match="'b' doesn't open it") as wrong:
        vault({"b": bytes(32)}).open_event(sealed, "r", 1, 3)
    assert wrong.value.damaged


def test_strict_refuses_what_is_not_encrypted() -> None:
    """Also what was only compressed: somebody has left encryption out."""
    with pytest.raises(CannotOpen, match="isn't sealed"):
        vault().open_event(EVENT, "r", 1, 3)
    packed = Vault([Compression(above=0)]).event(EVENT * 50, "r", 1, 3, None)
    with pytest.raises(CannotOpen, match="aes-256-gcm"):
        vault().open_event(packed, "r", 1, 3)
    easy = Vault([Compression(above=0), Encryption(KeyRing(KEYS), strict=False)])
    assert easy.open_event(EVENT, "r", 1, 3) == EVENT
    assert easy.open_event(packed, "r", 1, 3) == EVENT * 50


def test_what_a_store_says_by_itself_is_believed_without_payload() -> None:
    cancel = encode_event(events.CancelRequested(at=1.0, reason="its parent ended"))
    assert vault().open_mail(cancel, "r") == cancel
    ended = events.ChildEnded(at=1.0, child="c", status="completed", result=b"1")
    with pytest.raises(CannotOpen):
        vault().open_mail(encode_event(ended), "r")
    answered = events.CallbackEnded(at=1.0, callback="c", result=b"1")
    with pytest.raises(CannotOpen):
        vault().open_mail(encode_event(answered), "r")


@given(st.binary(max_size=50), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_pad_leads_to_any_checksum(data: bytes, chain: int, wanted: int) -> None:
    assert crc32(padded(data + bytes(4), chain, wanted, b"\n") + b"\n", chain) == wanted


def test_little_that_becomes_much_is_refused() -> None:
    small = Chain([Compression(above=0)]).seal(bytes(1_000_000), Place("r", b""))
    assert len(small) < 1000
    with pytest.raises(CannotOpen, match="1,000,000 bytes"):
        Chain([Compression(above=0, output_max=999_999)]).open(small, Place("r", b""))


def test_a_frame_that_lies_about_its_size_is_refused() -> None:
    import zstandard

    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1_000_000))
    with pytest.raises(CannotOpen):
        Compression(output_max=1000).decode(unsized, Place("r", b""), "")


def test_codecs_of_users_go_in_between() -> None:
    class Upside(Codec):
        name = "upside"

        def encode(self, data: bytes, place: Place) -> bytes | None:
            return data[::-1]

        def decode(self, data: bytes, place: Place, key: str) -> bytes:
            return data[::-1]

    first = Chain([Upside(), Encryption(KeyRing(KEYS)), Compression(above=0)])
    place = Place("r", b"here")
    sealed = first.seal(b"x" * 500, place)
    assert split(sealed)[0].codecs[:2] == ("upside", "aes-256-gcm")
    assert first.open(sealed, place) == b"x" * 500
    with pytest.raises(CannotOpen, match="'upside'"):
        Chain([Encryption(KeyRing(KEYS)), Compression()]).open(sealed, place)
    with pytest.raises(ConfigurationError, match="same name"):
        Chain([Upside(), Upside()])
    with pytest.raises(ConfigurationError, match="derive"):
        Chain([object()])  # type: ignore[list-item]


def test_a_ring_is_read_from_texts_files_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = new_key("one"), new_key("two")
    path = tmp_path / "keys"
    path.write_text(f"# keys\n{one}\n{two}\n")
    monkeypatch.setenv("PERDURE_KEYS", f"@{path}")
    for ring in (KeyRing.from_text(f"{one}, {two}"), KeyRing.from_file(path), KeyRing.from_env()):
        assert (ring.ids, ring.newest) == (("one", "two"), "two")
        assert "one" in repr(ring)
        assert one.partition(":")[2] not in repr(ring)


#: Two keys under one id.
TWICE = "a:" + "A" * 43 + " a:" + "B" * 42 + "A"


@pytest.mark.parametrize("text", ["", "noid", "a:short", "a:!!!", "bad id:xyzzy", TWICE, "@/nowhere"])
def test_what_is_no_ring_is_told_without_telling_secrets(text: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        KeyRing.from_text(text)
    for word in text.split():
        assert word.partition(":")[2] not in str(told.value) or not word.partition(":")[2]


def test_secrets_stay_secret() -> None:
    encryption = Encryption(KeyRing({"k": os.urandom(32)}))
    assert "secret" not in repr(encryption)
    with pytest.raises(ConfigurationError, match="32 bytes"):
        KeyRing({"k": b"short"})
    assert not hasattr(MemoryStore, "vault")
