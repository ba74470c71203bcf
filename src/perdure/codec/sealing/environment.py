"""The codecs that the environment asks for."""

from __future__ import annotations

import os

from perdure.codec.sealing.chain import Codec
from perdure.codec.sealing.keys import KEYS, KeyRing


def codecs_from_env() -> tuple[Codec, ...]:
    """Encryption with the keys in PERDURE_KEYS, and compression; nothing without them.

    PERDURE_KEYS_STRICT=0 accepts payloads that aren't encrypted yet.
    """
    if not os.environ.get(KEYS, "").strip():
        return ()
    from perdure.codec.sealing.compression import Compression
    from perdure.codec.sealing.encryption import Encryption

    strict = os.environ.get(f"{KEYS}_STRICT", "1") != "0"
    return Compression(), Encryption(KeyRing.from_env(), strict=strict)
