"""Functions for `Engine(redact=...)`, each from text to text.

`common` hides what looks like a credential: passwords in URLs, bearer tokens, AWS keys, private keys and the like.
"""

from perdure.codec.redaction import Redact, common

__all__ = ["Redact", "common"]
