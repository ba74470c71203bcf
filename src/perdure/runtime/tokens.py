"""Tokens of callbacks: 256 bits that nobody can guess, and that a replay makes again.

A token is a keyed BLAKE2b of the run and the callback's op id, and the key is the run's seed. So it needn't be
stored; what is stored, and looked up, is its hash. It does mean that whoever can read the database, and so the
seed, can make the tokens of the runs in it.
"""

from __future__ import annotations

import base64
from hashlib import blake2b

#: Tells what it is, wherever it turns up, and keeps the first character from being taken for an option's dash.
PREFIX = "cb_"

#: The same for ids of questions.
QUESTION = "q_"

_BYTES = 32
_PERSON = b"perdure token"
_QUESTION_BYTES = 10
_QUESTION_PERSON = b"perdure ask"


def token_of(seed: bytes, run_id: str, op_id: str) -> str:
    """The token of a run's callback: 46 characters that are safe in URLs.

    Example:
        >>> token_of(bytes(32), "r-1", "callback:1") == token_of(bytes(32), "r-1", "callback:1")
        True
    """
    name = _name(run_id, op_id)
    digest = blake2b(name, digest_size=_BYTES, key=seed, person=_PERSON).digest()
    return PREFIX + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def token_hash(token: str) -> bytes:
    """What the store knows a token by."""
    return blake2b(token.strip().encode(errors="surrogatepass"), digest_size=_BYTES).digest()


def question_id(seed: bytes, run_id: str, op_id: str) -> str:
    """The id of a run's question: 18 characters that can be read out and typed. It isn't secret.

    Example:
        >>> len(question_id(bytes(32), "r-1", "ask:1"))
        18
    """
    digest = blake2b(
        _name(run_id, op_id), digest_size=_QUESTION_BYTES, key=seed, person=_QUESTION_PERSON
    ).digest()
    return QUESTION + base64.b32encode(digest).decode().lower()


def question_hash(id: str) -> bytes:
    """What the store knows a question by. No token has it."""
    name = id.strip().lower().encode(errors="surrogatepass")
    return blake2b(name, digest_size=_BYTES, person=_QUESTION_PERSON).digest()


def _name(run_id: str, op_id: str) -> bytes:
    return f"{len(run_id)}:{run_id}{op_id}".encode(errors="surrogatepass")
