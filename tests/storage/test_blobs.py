"""Blobs: references keep links, places keep what was written, and only what nobody needs is collected."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import wraps
from pathlib import Path
from subprocess import run
from typing import Any, get_type_hints
from zlib import crc32

import pytest

from perdure import Blobs
from perdure.codec import blobrefs
from perdure.codec.blobrefs import chain_before, decode_ref, encode_ref, is_ref, linked, ref_to
from perdure.codec.events import decode_event
from perdure.errors import ConfigurationError, StoreUnavailableError, UndecodableError
from perdure.storage.blobs.moving import BlobMoving
from perdure.storage.blobs.places import Folder, Place, Remote, file_of, folder_of, place_of
from perdure.storage.blobs.store import PARTS, BlobStore
from perdure.storage.chain import link, links, origin
from perdure.storage.memory import MemoryStore
from perdure.storage.moving import Moving
from perdure.storage.passing import PassesWorkersOn
from perdure.storage.protocol import Store


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def body(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return body


def test_a_reference_has_the_link_of_its_event_wherever_it_lies() -> None:
    chance = random.Random(7)
    for size in (1, 2, 63, 64, 4097, 300_001):
        event, chain = chance.randbytes(size), chance.getrandbits(32)
        wanted = link(chain, event)
        assert chain_before(wanted, event, b"\n") == chain
        reference = linked(encode_ref(ref_to(event, folder_of("r"))), chain, wanted, b"\n")
        assert link(chain, reference) == wanted
        assert decode_ref(reference) == ref_to(event, folder_of("r"))
        assert links(chain, [b"a", reference, b"b"])[-1] == crc32(b"b\n", links(chain, [b"a", reference])[-1])


def test_a_reference_says_what_it_is_to_whoever_decodes_it() -> None:
    reference = encode_ref(ref_to(b"x" * 5000, "ab/cd"))
    assert is_ref(reference)
    with pytest.raises(UndecodableError, match=r"5,000 bytes is kept as blob ab/cd/.*give the engine those"):
        decode_event(reference)
    for damaged in (b"\xc7", reference[:20], b"\xc7" + bytes(60)):
        with pytest.raises(UndecodableError):
            decode_event(damaged)
    assert blobrefs.BLOB not in (1, 0xC5, 0xC6)


def test_every_verb_of_a_store_is_there() -> None:
    parts = {name for name, member in vars(Store).items() if isinstance(member, property)}
    assert parts == {*PARTS, "moving"}, "a new part of a store: does it hold events of histories?"
    below = MemoryStore()
    store = BlobStore(below, Blobs("memory://verbs"))
    assert all(getattr(store, part) is getattr(below, part) for part in PARTS)
    verbs = {name for name, member in vars(Store).items() if callable(member) and not name.startswith("_")}
    assert verbs <= {*vars(BlobStore), *vars(PassesWorkersOn)}, "a verb that nobody has thought about"
    assert not hasattr(BlobStore, "__getattr__")
    moving = {name for name, member in vars(Moving).items() if callable(member) and not name.startswith("_")}
    assert moving <= set(vars(BlobMoving))
    for verb in verbs:
        theirs, ours = get_type_hints(getattr(Store, verb)), get_type_hints(getattr(BlobStore, verb))
        assert list(theirs) == list(ours), verb


@pytest.fixture(params=["folder", "fsspec"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "folder":
        yield place_of(f"file://{tmp_path}/blobs")
    else:
        yield place_of(f"memory://blobs-{os.getpid()}-{time.monotonic_ns()}")


def test_a_place_keeps_what_was_written(place: Place) -> None:
    folder = folder_of("a run/ü\ud800")
    assert list(place.folders()) == []
    assert place.get(folder, "x") is None
    assert place.files(folder) == []
    for _ in range(2):
        place.put(folder, "x", file_of("a run/ü\ud800", b"\n1\n2"))
    assert place.get(folder, "x") == b"\n1\n2"
    assert place.owner(folder) == "a run/ü\ud800"
    assert list(place.folders()) == [folder]
    (found,) = place.files(folder)
    assert found.name == "x"
    assert abs(found.at - time.time()) < 3600
    assert not place.remove(folder, "x", before=found.at)
    assert place.get(folder, "x") is not None
    assert place.remove(folder, "x", before=found.at + 10)
    assert place.remove(folder, "x", before=found.at + 10)
    assert place.get(folder, "x") is None
    place.tidy(folder, before=found.at + 10)
    assert place.files(folder) == []


def test_what_is_written_anew_while_it_is_removed_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Folder(tmp_path)
    place.put("ab/r", "x", file_of("r", b"content"))
    os.utime(tmp_path / "ab/r/x", (1, 1))
    replace = Path.replace

    def between(self: Path, target: Path) -> Path:
        if target.name.endswith(".going"):
            monkeypatch.undo()
            place.put("ab/r", "x", file_of("r", b"content"))  # somebody needs it again, just now
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", between)
    assert not place.remove("ab/r", "x", before=1000.0)
    assert place.get("ab/r", "x") == b"content"
    assert [found.name for found in place.files("ab/r")] == ["x"]


def test_whoever_dies_while_it_removes_or_writes_leaves_nothing_behind(tmp_path: Path) -> None:
    place = Folder(tmp_path)
    place.put("ab/r", "x", file_of("r", b"content"))
    (tmp_path / "ab/r/x").rename(tmp_path / "ab/r/x.going")
    assert place.get("ab/r", "x") == b"content", "it may be needed"
    assert place.owner("ab/r") == "r"
    (tmp_path / "ab/r/.tmp-1").write_bytes(b"half a bl")
    os.utime(tmp_path / "ab/r/.tmp-1", (1, 1))
    (tmp_path / "ab/r/.tmp-2").write_bytes(b"being written")
    place.tidy("ab/r", before=1000.0)
    assert sorted(found.name for found in place.files("ab/r")) == [".tmp-2", "x"]


def test_a_full_disk_leaves_no_half_of_a_blob_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Folder(tmp_path)

    def full(descriptor: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreUnavailableError, match="no room left"):
        place.put("ab/r", "x", b"content")
    monkeypatch.undo()
    assert place.files("ab/r") == []
    assert place.get("ab/r", "x") is None


def test_each_write_is_synced_before_its_name_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        done.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        done.append("name")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    Folder(tmp_path / "blobs").put("ab/r", "x", b"content")
    assert done == ["folder", "folder", "folder", "file", "name", "folder"]


def test_processes_that_write_one_blob_at_once_all_succeed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from perdure.storage.blobs.places import Folder\n"
        "place = Folder(Path(sys.argv[1]))\n"
        "for number in range(100):\n"
        "    place.put('ab/r', 'x', b'r\\n' + b'c' * 5000)\n"
        "    assert place.get('ab/r', 'x') == b'c' * 5000\n"
        "    place.remove('ab/r', 'x', before=1e12 if number % 7 == 3 else 0)\n"
        "    place.put('ab/r', 'x', b'r\\n' + b'c' * 5000)\n"
    )
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as pool:
        ended = pool.map(
            lambda _: run([sys.executable, "-c", code, tmp_path], capture_output=True, check=False), range(2)
        )
        for done in ended:
            told = done.stderr.decode()
            assert done.returncode == 0 or "AssertionError" in told, told  # another one has just removed it
    assert Folder(tmp_path).get("ab/r", "x") == b"c" * 5000


def test_numbers_and_places_that_make_no_sense_are_refused() -> None:
    for wrong in ({"above": 100}, {"grace": -1.0}, {"collect_every": 0.0}):
        with pytest.raises(ConfigurationError):
            Blobs("file:///x", **wrong)  # type: ignore[arg-type]
    for url in ("", "file://host/x", "nosuchthing://x"):
        with pytest.raises(ConfigurationError):
            place_of(Blobs(url).url)
    assert isinstance(place_of("/var/lib/blobs"), Folder)
    assert isinstance(place_of("memory://x"), Remote)


@in_a_loop
async def test_what_cannot_be_reached_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    place = place_of("memory://unreachable")
    assert isinstance(place, Remote)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("503 Slow Down")

    monkeypatch.setattr(place._fs, "pipe_file", fail)
    monkeypatch.setattr(place._fs, "cat_file", fail)
    for verb in (lambda: place.put("ab/r", "x", b"1"), lambda: place.get("ab/r", "x")):
        with pytest.raises(StoreUnavailableError, match="503 Slow Down"):
            verb()
    assert origin("r", 1) != origin("r", 2)
