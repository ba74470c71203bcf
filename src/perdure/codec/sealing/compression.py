"""Compression with zstd, for payloads above a size. It goes before encryption, after which nothing gets smaller."""

from __future__ import annotations

import threading
from typing import Any

from perdure.codec.sealing.chain import CannotOpen, Codec, Place
from perdure.errors import ConfigurationError

#: Most bytes that come out of one payload, unless its user says otherwise.
OUTPUT_MAX = 64 * 1024 * 1024


class Compression(Codec):
    """zstd for large payloads.

    Args:
        above: payloads of more bytes are compressed, unless they don't get smaller.
        level: as zstd counts them: 3 is quick, 19 slow.
        output_max: what becomes larger than this, in bytes, isn't decompressed: a few bytes that somebody puts into the
            database mustn't fill the memory.

    Raises:
        ConfigurationError: a number can't be used, or the package `zstandard` is missing.

    Example:
        >>> codec = [Compression(above=1024), Encryption(KeyRing.from_env())]  # doctest: +SKIP
    """

    name = "zstd"

    def __init__(self, *, above: int = 1024, level: int = 3, output_max: int = OUTPUT_MAX) -> None:
        try:
            import zstandard
        except ImportError as error:
            msg = f"compression needs a package that isn't installed ({error}): pip install 'perdure[crypto]'"
            raise ConfigurationError(msg) from error
        if above < 0 or output_max <= 0 or not 1 <= level <= zstandard.MAX_COMPRESSION_LEVEL:
            msg = (
                f"Compression(above={above}, level={level}, output_max={output_max}): above is at least 0 bytes, "
                f"output_max more than that, and level from 1 to {zstandard.MAX_COMPRESSION_LEVEL}"
            )
            raise ConfigurationError(msg)
        self._above = above
        self._output_max = output_max
        self._zstd: Any = zstandard
        self._level = level
        self._own = threading.local()  # a compressor can't be used by two threads at once

    def encode(self, data: bytes, place: Place) -> bytes | None:
        if len(data) <= self._above:
            return None
        compressor = getattr(self._own, "compressor", None)
        if compressor is None:
            compressor = self._own.compressor = self._zstd.ZstdCompressor(level=self._level)
        compressed: bytes = compressor.compress(data)
        return compressed if len(compressed) < len(data) else None

    def decode(self, data: bytes, place: Place, key: str) -> bytes:
        try:
            size = self._zstd.frame_content_size(data)
            if size > self._output_max:
                told = f"it would become {size:,} bytes, and {self._output_max:,} is the most that is allowed here"
                raise CannotOpen(told, damaged=False)
            decompressed: bytes = self._zstd.ZstdDecompressor().decompress(
                data, max_output_size=self._output_max
            )
        except self._zstd.ZstdError as error:
            raise CannotOpen(f"it can't be decompressed: {error}", damaged=True) from None
        return decompressed
