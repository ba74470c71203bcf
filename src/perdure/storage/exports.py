r"""Runs as a file: lines of JSON, with bytes as base64.

    {"perdure_export": 1, "runs": 1}                      the format's version, and how many runs follow
    {"part": "run", "id": "r-1", "parts": 12}             a run, and how many parts it has
    {"part": "generation", "generation": 1, ...}          its parts: rows, events, mail, ... (see storage/moving.py)
    {"part": "event", "generation": 1, "data": "eyJ..."}
    ...
    {"part": "end", "lines": 14, "digest": "9f0c..."}     lines before this one; BLAKE2b-256 of their bytes

Each line ends with one "\n", which is hashed, too. A reader refuses versions that it doesn't know.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from perdure.errors import MovingError
from perdure.storage.moving import AnyPart, Package

VERSION = 1

_encode = msgspec.json.Encoder().encode
_part = msgspec.json.Decoder(AnyPart)


def export_lines(packages: Sequence[Package], *, named: bool = False) -> Iterator[bytes]:
    """The lines of a file with these runs.

    Args:
        named: the first line has the ids of all runs, too.
    """
    hashed, count = hashlib.blake2b(digest_size=32), 0
    for line in _body(packages, named):
        hashed.update(line)
        count += 1
        yield line
    yield _encode({"part": "end", "lines": count, "digest": hashed.hexdigest()}) + b"\n"


def _body(packages: Sequence[Package], named: bool) -> Iterator[bytes]:
    ids = {"ids": [package.id for package in packages]} if named else {}
    yield _encode({"perdure_export": VERSION, "runs": len(packages), **ids}) + b"\n"
    for package in packages:
        yield _encode({"part": "run", "id": package.id, "parts": len(package.parts)}) + b"\n"
        for line in package.lines():
            yield line + b"\n"


def read_export(lines: Iterable[bytes]) -> list[Package]:
    """The runs in a file.

    Raises:
        MovingError: it isn't a whole file of a version that is known here.
    """
    given = list(lines)
    header = _plain(given[0]) if given else {}
    version = header.get("perdure_export")
    if version is None:
        raise MovingError(
            "This is no export of Perdure's: its first line doesn't say so. Give a file of `perdure export`."
        )
    if version != VERSION:
        raise MovingError(
            f"The file has version {version!r} of the format, and this Perdure reads version {VERSION}. "
            f"Import it with the release of Perdure that wrote it, or a newer one."
        )
    *body, last = given
    hashed = hashlib.blake2b(digest_size=32)
    for line in body:
        hashed.update(line)
    if _plain(last) != {"part": "end", "lines": len(body), "digest": hashed.hexdigest()}:
        raise MovingError(
            "The file isn't as it was written: its end is missing, or its digest doesn't fit. "
            "Nothing was imported. Copy it again, or export the run anew."
        )
    return _packages(body[1:])


def _packages(lines: Sequence[bytes]) -> list[Package]:
    packages: list[Package] = []
    place = 0
    try:
        while place < len(lines):
            head = _plain(lines[place])
            end = place + 1 + head["parts"]
            packages.append(Package(head["id"], tuple(_part.decode(line) for line in lines[place + 1 : end])))
            place = end
    except (msgspec.DecodeError, KeyError) as error:
        raise MovingError(
            f"Line {place + 2} of the file, or one after it, can't be read ({error}). Nothing was imported. "
            f"Export the run anew."
        ) from error
    return packages


def _plain(line: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}
