"""Where blobs are: a folder of this machine (or one that all see), or what fsspec knows. Called in threads.

A blob is a file `ab/abcdef.../<SHA-256>`: the folder is made from the run's id. Its first line is that id as JSON, so
that it can be told whose it is; the rest is the event.

In a folder a blob is written under a temporary name, synced, renamed, and its folder synced: whoever sees the name sees
all of it, also after a loss of power. It is removed in two steps, since somebody may write it anew just then: it is
renamed first, and looked at once more under that name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Generator, Iterator
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

import msgspec

from perdure.errors import ConfigurationError, StoreUnavailableError

_GOING = ".going"
_TEMPORARY = ".tmp-"


class Found(NamedTuple):
    """A file in a folder of blobs: its name, size, and when it was written, by the place's clock."""

    name: str
    size: int
    at: float


class Place(Protocol):
    """The verbs of a place. Each raises StoreUnavailableError if it can't be reached or written."""

    def put(self, folder: str, name: str, data: bytes) -> None:
        """Keep a blob; durable when it returns. What is there already is written anew."""
        ...

    def get(self, folder: str, name: str) -> bytes | None:
        """A blob, None if it isn't there."""
        ...

    def folders(self) -> Iterator[str]: ...

    def files(self, folder: str) -> list[Found]: ...

    def owner(self, folder: str) -> str | None:
        """The id of the run whose folder it is; None if that can't be told, or it is empty."""
        ...

    def remove(self, folder: str, name: str, *, before: float) -> bool:
        """Remove a blob that was written before then. Whether it is gone."""
        ...

    def tidy(self, folder: str, *, before: float) -> None:
        """Finish or undo what somebody died at before then, and remove an empty folder."""
        ...


def place_of(url: str) -> Place:
    """The place at a url. Nothing is written yet.

    Raises:
        ConfigurationError: there is none, or a package is missing.
    """
    parts = urlsplit(url)
    if parts.scheme in ("", "file"):
        path = unquote(parts.path) if parts.scheme else url
        if parts.netloc or not path:
            msg = f"blobs: {url!r} names no folder. Write file:///var/lib/blobs"
            raise ConfigurationError(msg)
        return Folder(Path(path).absolute())
    return Remote(url)


def folder_of(id: str) -> str:
    """The folder of a run's blobs."""
    digest = blake2b(id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"{digest[:2]}/{digest}"


def file_of(id: str, data: bytes) -> bytes:
    """A blob's file."""
    return msgspec.json.encode(id.encode("utf-8", "surrogatepass").hex()) + b"\n" + data


def _owner(head: bytes) -> str | None:
    line, end, _ = head.partition(b"\n")
    try:
        return (
            bytes.fromhex(msgspec.json.decode(line, type=str)).decode("utf-8", "surrogatepass")
            if end
            else None
        )
    except (msgspec.MsgspecError, ValueError):
        return None


def _content(file: bytes) -> bytes:
    return file.partition(b"\n")[2]


_HEAD_MAX = 8192


class Folder:
    """A folder.

    Args:
        root: it is made when the first blob is.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, folder: str, name: str, data: bytes) -> None:
        path = self._root / folder
        temporary = path / f"{_TEMPORARY}{secrets.token_hex(8)}"
        try:
            self._make(path)
            try:
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                try:
                    rest = memoryview(data)
                    while rest:
                        rest = rest[os.write(descriptor, rest) :]
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                temporary.replace(path / name)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
            _sync(path)
        except OSError as error:
            raise _unavailable(self._root, error) from error

    def get(self, folder: str, name: str) -> bytes | None:
        path = self._root / folder
        try:
            # Somebody may be about to remove it, and find out that it is needed.
            for candidate in (name, name + _GOING, name):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    return _content((path / candidate).read_bytes())
        except OSError as error:
            raise _unavailable(self._root, error) from error
        return None

    def folders(self) -> Iterator[str]:
        for shard in _names(self._root):
            for name in _names(self._root / shard):
                yield f"{shard}/{name}"

    def files(self, folder: str) -> list[Found]:
        found: list[Found] = []
        for name in _names(self._root / folder):
            with contextlib.suppress(FileNotFoundError):
                stat = (self._root / folder / name).stat()
                found.append(Found(name, stat.st_size, stat.st_mtime))
        return found

    def owner(self, folder: str) -> str | None:
        for name in _names(self._root / folder):
            if not name.startswith(_TEMPORARY):
                with contextlib.suppress(FileNotFoundError), (self._root / folder / name).open("rb") as file:
                    return _owner(file.read(_HEAD_MAX))
        return None

    def remove(self, folder: str, name: str, *, before: float) -> bool:
        path = self._root / folder / name
        try:
            if path.stat().st_mtime >= before:
                return False
            path.replace(path.with_name(name + _GOING))
        except FileNotFoundError:
            return True
        return self._gone(path, before=before)

    def tidy(self, folder: str, *, before: float) -> None:
        for found in self.files(folder):
            path = self._root / folder / found.name
            if found.name.endswith(_GOING):
                # Whoever wanted to remove it died. Whether it is needed is found out anew.
                with contextlib.suppress(OSError):
                    os.link(path, path.with_name(found.name.removesuffix(_GOING)))
                with contextlib.suppress(OSError):
                    path.unlink()
            elif found.name.startswith(_TEMPORARY) and found.at < before:
                with contextlib.suppress(OSError):
                    path.unlink()
        with contextlib.suppress(OSError):  # others have put something there
            (self._root / folder).rmdir()

    def _gone(self, path: Path, *, before: float) -> bool:
        going = path.with_name(path.name + _GOING)
        try:
            if going.stat().st_mtime < before:
                going.unlink()
                return True
            os.link(going, path)  # it was written anew meanwhile; and if it is there again, that is as good
        except FileExistsError:
            pass
        except FileNotFoundError:
            return True
        with contextlib.suppress(FileNotFoundError):
            going.unlink()
        return False

    def _make(self, path: Path) -> None:
        missing: list[Path] = []
        while not path.is_dir():
            missing.append(path)
            path = path.parent
        for each in reversed(missing):
            with contextlib.suppress(FileExistsError):
                each.mkdir(mode=0o700)
            _sync(each.parent)


class Remote:
    """What fsspec knows: an object store, say, where what was written is there as a whole or not at all.

    Args:
        url: `s3://bucket/blobs`.
    """

    def __init__(self, url: str) -> None:
        try:
            fsspec: Any = import_module("fsspec")
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            msg = (
                f"blobs: {url!r} needs a package that isn't installed ({error}): pip install 'perdure[blobs]'"
            )
            raise ConfigurationError(msg) from error
        except ValueError as error:
            msg = f"blobs: {url!r} names no place that fsspec knows: {error}"
            raise ConfigurationError(msg) from error
        self._url = url

    def put(self, folder: str, name: str, data: bytes) -> None:
        with self._told():
            self._fs.makedirs(f"{self._root}/{folder}", exist_ok=True)  # nothing, in an object store
            self._fs.pipe_file(f"{self._root}/{folder}/{name}", data)

    def get(self, folder: str, name: str) -> bytes | None:
        with self._told():
            try:
                return _content(self._fs.cat_file(f"{self._root}/{folder}/{name}"))
            except FileNotFoundError:
                return None

    def folders(self) -> Iterator[str]:
        for shard in self._names(""):
            for name in self._names(f"/{shard}"):
                yield f"{shard}/{name}"

    def files(self, folder: str) -> list[Found]:
        with self._told():
            self._fs.invalidate_cache()
            try:
                listed = self._fs.ls(f"{self._root}/{folder}", detail=True)
            except FileNotFoundError:
                return []
            return [
                Found(
                    info["name"].rstrip("/").rpartition("/")[2],
                    info["size"] or 0,
                    self._written(info["name"]),
                )
                for info in listed
                if info["type"] == "file"
            ]

    def owner(self, folder: str) -> str | None:
        for found in self.files(folder):
            with self._told(), contextlib.suppress(FileNotFoundError):
                path = f"{self._root}/{folder}/{found.name}"
                return _owner(self._fs.cat_file(path, start=0, end=min(_HEAD_MAX, found.size)))
        return None

    def remove(self, folder: str, name: str, *, before: float) -> bool:
        path = f"{self._root}/{folder}/{name}"
        with self._told():
            try:
                if self._written(path) >= before:
                    return False
                self._fs.rm_file(path)
            except FileNotFoundError:
                pass
            return True

    def tidy(self, folder: str, *, before: float) -> None:
        with contextlib.suppress(Exception):  # object stores have no folders, and others are in it
            self._fs.rmdir(f"{self._root}/{folder}")

    def _written(self, path: str) -> float:
        return float(self._fs.modified(path).timestamp())

    def _names(self, below: str) -> list[str]:
        with self._told():
            self._fs.invalidate_cache()
            try:
                return [
                    name.rstrip("/").rpartition("/")[2]
                    for name in self._fs.ls(self._root + below, detail=False)
                ]
            except FileNotFoundError:
                return []

    @contextlib.contextmanager
    def _told(self) -> Generator[None, None, None]:
        try:
            yield
        except FileNotFoundError:
            raise
        # Each of these places has errors of its own.
        except Exception as error:
            msg = (
                f"The blobs at {self._url} can't be used: {type(error).__name__}: {error}. Nothing that refers to "
                "them was written; it goes on by itself when they can."
            )
            raise StoreUnavailableError(msg) from error


def _names(path: Path) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unavailable(root: Path, error: OSError) -> StoreUnavailableError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    what = "has no room left: free some" if full else f"can't be used: {error.strerror}"
    return StoreUnavailableError(
        f"The folder of blobs {root} {what}. Nothing that refers to a blob there was written; it goes on by itself "
        "then."
    )


def now() -> float:
    """By the clock of files."""
    return time.time()
