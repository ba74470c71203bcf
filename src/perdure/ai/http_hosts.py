"""Which requests are recorded: an allow-list of hosts and paths.

What isn't on it has no place in a history: tokens that are fetched, downloads, endless streams of events.

    "api.example.com"            the endpoints of language models there
    "api.example.com:8443"       the same at one port
    "*.example.com/v2/*"         those paths there, whatever they are
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from perdure.errors import ConfigurationError

#: Who is known to serve language models, and what the price list calls them.
PROVIDERS = {
    "api.openai.com": "openai",
    "*.api.openai.com": "openai",
    "*.openai.azure.com": "azure",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "google",
    "aiplatform.googleapis.com": "google",
    "*-aiplatform.googleapis.com": "google",
    "api.cerebras.ai": "cerebras",
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "api.perplexity.ai": "perplexity",
    "api.together.xyz": "together",
    "api.x.ai": "x-ai",
    "openrouter.ai": "openrouter",
}

#: The hosts that are on the list if none are given.
LANGUAGE_MODELS = tuple(PROVIDERS)

#: Where language models are served. Sessions, keys, uploads and the contents of files are left out on purpose.
_ENDPOINTS = re.compile(
    r"""/(chat/)?completions$
      | /responses(/compact | /input_tokens | /[\w-]+(/cancel | /input_items)?)?$
      | /embeddings$ | /moderations$ | /rerank$
      | /images/(generations | edits | variations)$
      | /audio/(speech | transcriptions | translations)$
      | /messages(/count_tokens | /batches(/[\w-]+(/cancel | /results)?)?)?$
      | /batches(/[\w-]+(/cancel)?)?$
      | /models(/[\w.:-]+){0,2}$
      | :(generateContent | streamGenerateContent | embedContent | batchEmbedContents | countTokens | predict)$
    """,
    re.VERBOSE,
)
_PORTS = {"http": 80, "https": 443}
_ENTRY = re.compile(r"(?P<host>[^\s/:@]+)(:(?P<port>\d+))?(?P<path>/\S*)?")


@dataclass(frozen=True, slots=True)
class Allowed:
    """One entry of the list.

    Attributes:
        host: a pattern with `*`.
        port: None for any.
        path: a pattern; None for the endpoints of language models.
    """

    host: str
    port: int | None
    path: str | None

    def covers(self, url: Any) -> bool:
        """Whether a URL of httpx is meant."""
        port = url.port or _PORTS.get(url.scheme)
        if not fnmatchcase(url.host.lower(), self.host) or self.port not in (None, port):
            return False
        path: str = url.path
        return bool(_ENDPOINTS.search(path)) if self.path is None else fnmatchcase(path, self.path)


def allowed(entries: Iterable[str]) -> tuple[Allowed, ...]:
    """Read the entries of an allow-list.

    Raises:
        ConfigurationError: one can't be an entry.
    """
    if isinstance(entries, str):
        entries = [entries]
    found: list[Allowed] = []
    for entry in entries:
        parts = _ENTRY.fullmatch(entry) if isinstance(entry, str) else None
        if parts is None:
            msg = (
                f"{entry!r} can't be among the hosts of durable_http: give HOST, HOST:PORT or HOST/PATH, with * for "
                'anything, as in "api.example.com" (the endpoints of language models there) or "api.example.com/v2/*"'
            )
            raise ConfigurationError(msg)
        port = parts["port"]
        found.append(Allowed(parts["host"].lower(), None if port is None else int(port), parts["path"]))
    return tuple(found)


def provider_at(host: str) -> str | None:
    """Who serves language models at a host, if that is known."""
    for pattern, name in PROVIDERS.items():
        if fnmatchcase(host.lower(), pattern):
            return name
    return None
