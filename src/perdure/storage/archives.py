"""Where runs are written to before they are removed: files in a folder, or in what fsspec knows.

A file holds some runs, as exports do (see exports.py), or as a Parquet table of the same lines. It appears under its
name as a whole, and is durable then. Whoever writes it has noted its name before, so that a repeat after a crash
writes the same file again instead of another one.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import secrets
from abc import abstractmethod
from collections.abc import Callable, Generator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from perdure.codec.events import decode_event
from perdure.errors import ConfigurationError, MovingError, StoreUnavailableError, UndecodableError
from perdure.storage.exports import export_lines, read_export
from perdure.storage.moving import AnyPart, HistoryPart, Package

FORMATS = ("jsonl", "jsonl.gz", "jsonl.zst", "parquet")
_PREFIX = "perdure-"
_MAX = 1 << 31  #: bytes that a compressed file may have

_encode = msgspec.json.Encoder().encode
_part = msgspec.json.Decoder(AnyPart)


class Archive:
    """A place for files with runs.

    Attributes:
        url: as it was given.
        format: in which files are written. What is there is read in any.
    """

    def __init__(self, url: str, format: str) -> None:
        self.url = url
        self.format = format

    def write(self, name: str, packages: Sequence[Package]) -> None:
        """Write a file; it is durable when this returns. One of this name that is there stays: whoever wrote it had
        the same plan, and may have begun to remove what it holds.

        Raises:
            StoreUnavailableError: it couldn't be written.
        """
        data = _ENCODERS[self.format](packages)
        with _told(self.url):
            self.put(f"{name}.{self.format}", data)

    def has(self, name: str) -> bool:
        """Whether there is a file of this name.

        Raises:
            StoreUnavailableError: nobody can tell.
        """
        with _told(self.url):
            return self.is_there(f"{name}.{self.format}")

    def files(self) -> list[str]:
        """The names of all files, the oldest first."""
        with _told(self.url):
            return sorted(name for name in self.all_names() if name.startswith(_PREFIX) and format_of(name))

    def read(self, name: str) -> list[Package]:
        """The runs in a file.

        Raises:
            MovingError: it isn't as it was written.
            StoreUnavailableError: it couldn't be read.
        """
        with _told(self.url):
            data = self.get(name)
        return packages_in(data, name)

    def find(self, id: str) -> Package | None:
        """A run in this archive; if it is there several times, the longest one."""
        found: Package | None = None
        for name in self.files():
            for package in self.read(name):
                if package.id == id and (found is None or len(package.parts) > len(found.parts)):
                    found = package
        return found

    @abstractmethod
    def put(self, name: str, data: bytes) -> None: ...
    @abstractmethod
    def get(self, name: str) -> bytes: ...
    @abstractmethod
    def is_there(self, name: str) -> bool: ...
    @abstractmethod
    def all_names(self) -> list[str]: ...


class Folder(Archive):
    """Files in a directory of this machine."""

    def __init__(self, url: str, format: str, path: Path) -> None:
        super().__init__(url, format)
        self._path = path

    def put(self, name: str, data: bytes) -> None:
        made = [one for one in (self._path, *self._path.parents) if not one.exists()]
        self._path.mkdir(parents=True, exist_ok=True)
        draft = self._path / f".{name}.{secrets.token_hex(4)}.part"
        try:
            with draft.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(draft, self._path / name)
        finally:
            draft.unlink(missing_ok=True)
        for folder in (self._path, *(one.parent for one in made)):
            _sync(folder)

    def get(self, name: str) -> bytes:
        return (self._path / name).read_bytes()

    def is_there(self, name: str) -> bool:
        return (self._path / name).exists()

    def all_names(self) -> list[str]:
        return [path.name for path in self._path.iterdir()] if self._path.is_dir() else []


class Remote(Archive):
    """Files where fsspec can write."""

    def __init__(self, url: str, format: str, place: str) -> None:
        super().__init__(url, format)
        fsspec = _needed("fsspec", "blobs")
        self._fs, self._path = fsspec.core.url_to_fs(place)

    def put(self, name: str, data: bytes) -> None:
        self._fs.makedirs(self._path, exist_ok=True)
        path = f"{self._path}/{name}"
        if self._fs.exists(path):
            return
        with contextlib.suppress(FileExistsError):
            self._fs.pipe_file(path, data, mode="create")
            size = self._fs.size(path)
            if size != len(data):
                raise OSError(f"{path} has {size} bytes there instead of {len(data)}")

    def get(self, name: str) -> bytes:
        data: bytes = self._fs.cat_file(f"{self._path}/{name}")
        return data

    def is_there(self, name: str) -> bool:
        return bool(self._fs.exists(f"{self._path}/{name}"))

    def all_names(self) -> list[str]:
        if not self._fs.exists(self._path):
            return []
        return [str(path).rpartition("/")[2] for path in self._fs.ls(self._path, detail=False)]


def archive_at(url: str) -> Archive:
    """The archive at a url or in a folder. Nothing is opened or made yet.

    Raises:
        ConfigurationError: there is no such format, or a package is missing.
    """
    where, _, query = url.partition("?")
    format = dict(parse_qsl(query)).get("format", FORMATS[0])
    if format not in FORMATS:
        msg = f"archive={url!r}: the format {format!r} isn't one of {', '.join(FORMATS)}"
        raise ConfigurationError(msg)
    if format == "parquet":
        _needed("pyarrow", "archive")
    if format == "jsonl.zst":
        _needed("zstandard", "crypto")
    parts = urlsplit(where)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path:
            msg = f"archive={url!r}: write file:///folder, with three slashes"
            raise ConfigurationError(msg)
        return Folder(url, format, Path(unquote(parts.path)))
    if len(parts.scheme) < 2:  # a letter is a drive
        return Folder(url, format, Path(os.path.abspath(where)))
    return Remote(url, format, where)


def new_name(at: str) -> str:
    """A name for a file whose oldest run has ended at this time, given as digits."""
    return f"{_PREFIX}{at}-{secrets.token_hex(6)}"


def format_of(name: str) -> str | None:
    """The format of a file, by its name."""
    return next((format for format in reversed(FORMATS) if name.endswith(f".{format}")), None)


def packages_in(data: bytes, name: str) -> list[Package]:
    """The runs in the bytes of a file of this name.

    Raises:
        MovingError: it isn't as it was written.
    """
    format = format_of(name) or "jsonl"
    try:
        return _DECODERS[format](data)
    except (OSError, EOFError, ValueError) as error:
        raise MovingError(f"{name} isn't as it was written ({error}). Take it from a copy.") from error


# -- formats --------------------------------------------------------------------------------------------


def _lines(packages: Sequence[Package]) -> bytes:
    return b"".join(export_lines(packages, named=True))


def _read_lines(data: bytes) -> list[Package]:
    return read_export(data.splitlines(keepends=True))


def _gzip(packages: Sequence[Package]) -> bytes:
    return gzip.compress(_lines(packages), mtime=0)


def _read_gzip(data: bytes) -> list[Package]:
    return _read_lines(gzip.decompress(data))


def _zstd(packages: Sequence[Package]) -> bytes:
    compressed: bytes = _needed("zstandard", "crypto").ZstdCompressor(level=9).compress(_lines(packages))
    return compressed


def _read_zstd(data: bytes) -> list[Package]:
    zstandard = _needed("zstandard", "crypto")
    try:
        return _read_lines(zstandard.ZstdDecompressor().decompress(data, max_output_size=_MAX))
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


def _parquet(packages: Sequence[Package]) -> bytes:
    """A row a part: of what, which, and the line as an export has it; of an event its bytes and its kind, too."""
    arrow, parquet = _needed("pyarrow", "archive"), _needed("pyarrow.parquet", "archive")
    rows = [(package.id, part) for package in packages for part in package.parts]
    lines = [line for package in packages for line in package.lines()]
    events = [part if isinstance(part, HistoryPart) else None for _, part in rows]
    table = arrow.table(
        {
            "id": arrow.array([id for id, _ in rows], arrow.string()),
            "generation": arrow.array([part.generation for _, part in rows], arrow.int64()),
            "part": arrow.array([str(part.__struct_config__.tag) for _, part in rows], arrow.string()),
            "seq": arrow.array([event and event.seq for event in events], arrow.int64()),
            "kind": arrow.array([event and _kind(event.data) for event in events], arrow.string()),
            "line": arrow.array([line.decode() for line in lines], arrow.string()),
        }
    ).replace_schema_metadata({"perdure_archive": "1", "perdure_digest": _digest(lines)})
    out = io.BytesIO()
    parquet.write_table(table, out, compression="zstd")
    return out.getvalue()


def _kind(data: bytes) -> str | None:
    """The name of an event's kind, None if it can't be read here."""
    try:
        return type(decode_event(data)).__name__
    except UndecodableError:
        return None


def _read_parquet(data: bytes) -> list[Package]:
    parquet = _needed("pyarrow.parquet", "archive")
    table = parquet.read_table(io.BytesIO(data))
    metadata: dict[bytes, bytes] = table.schema.metadata or {}
    told = metadata.get(b"perdure_digest", b"").decode()
    ids, lines = table.column("id").to_pylist(), [line.encode() for line in table.column("line").to_pylist()]
    if told != _digest(lines):
        raise ValueError("its digest doesn't fit")
    parts: dict[str, list[AnyPart]] = {}
    for id, line in zip(ids, lines, strict=True):
        parts.setdefault(id, []).append(_part.decode(line))
    return [Package(id, tuple(each)) for id, each in parts.items()]


def _digest(lines: Sequence[bytes]) -> str:
    hashed = hashlib.blake2b(digest_size=32)
    for line in lines:
        hashed.update(line + b"\n")
    return hashed.hexdigest()


_ENCODERS: dict[str, Callable[[Sequence[Package]], bytes]] = {
    "jsonl": _lines,
    "jsonl.gz": _gzip,
    "jsonl.zst": _zstd,
    "parquet": _parquet,
}
_DECODERS: dict[str, Callable[[bytes], list[Package]]] = {
    "jsonl": _read_lines,
    "jsonl.gz": _read_gzip,
    "jsonl.zst": _read_zstd,
    "parquet": _read_parquet,
}


def _needed(module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        msg = f"archives of this kind need {module.partition('.')[0]}: pip install 'perdure[{extra}]'"
        raise ConfigurationError(msg) from error


def _sync(folder: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _told(url: str) -> Generator[None, None, None]:
    try:
        yield
    except OSError as error:
        msg = f"The archive {url} can't be used: {error}. No run of which it has no copy is removed."
        raise StoreUnavailableError(msg) from error
