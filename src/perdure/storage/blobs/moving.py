"""Packages of runs hold events as they are: what is moved, exported or archived needs no blobs any more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from perdure.codec.blobrefs import is_ref, refusal
from perdure.errors import StoreUnavailableError
from perdure.storage.moving import AnyPart, HistoryPart, Mark, Moving, Package, Stamp


class BlobMoving:
    """See Moving.

    Args:
        fetched: gives the event for a reference; or, if it can't be had, a reference that says why.
    """

    def __init__(self, below: Moving, fetched: Callable[[bytes], Awaitable[bytes]]) -> None:
        self._below = below
        self._fetched = fetched

    async def mark(self) -> Mark | None:
        return await self._below.mark()

    async def begin(self, mark: Mark) -> Mark:
        return await self._below.begin(mark)

    async def give_up(self, token: str) -> bool:
        return await self._below.give_up(token)

    async def stamps(self) -> list[Stamp]:
        return await self._below.stamps()

    async def read(self, ids: Sequence[str]) -> list[Package | None]:
        return [
            None if package is None else await self._whole(package) for package in await self._below.read(ids)
        ]

    async def put(self, packages: Sequence[Package], *, hold: str | None = None) -> list[bool]:
        return await self._below.put(packages, hold=hold)

    async def switch(self, token: str, seen: bytes, event: bytes, *, now: float) -> bool:
        return await self._below.switch(token, seen, event, now=now)

    async def arrive(self, token: str, *, now: float, limit: int) -> int:
        return await self._below.arrive(token, now=now, limit=limit)

    async def drop(self, token: str) -> int:
        return await self._below.drop(token)

    async def _whole(self, package: Package) -> Package:
        if not any(isinstance(part, HistoryPart) and is_ref(part.data) for part in package.parts):
            return package
        parts: list[AnyPart] = []
        for part in package.parts:
            if isinstance(part, HistoryPart) and is_ref(part.data):
                data = await self._fetched(part.data)
                if is_ref(data):  # without it nobody could read it there, and here it might be removed
                    raise StoreUnavailableError(
                        f"Run {package.id!r} can't be moved or archived. {refusal(data)}"
                    )
                part = msgspec.structs.replace(part, data=data)  # with the same link
            parts.append(part)
        return Package(package.id, tuple(parts))
