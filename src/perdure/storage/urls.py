"""From a database url to the store that serves it.

The one place that knows all kinds of stores; each is imported only when it is asked for.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from perdure.codec.redaction import common
from perdure.errors import ConfigurationError
from perdure.storage.protocol import Store

if TYPE_CHECKING:
    from perdure.storage.auditing import Auditor
    from perdure.storage.migrate import SchemaState

FORMS = (
    "sqlite:///agents.db (a file beside the program), sqlite:////var/lib/agents.db (an absolute path), "
    "postgresql://user@host/database, memory:"
)


def url_of_environment() -> str | None:
    """The database's url as the environment gives it: in PERDURE_URL, or in the file that PERDURE_URL_FILE names.

    A file is how orchestrators hand secrets over: what is in the environment shows in many more places.

    Raises:
        ConfigurationError: the file can't be read, or is empty.
    """
    if given := os.environ.get("PERDURE_URL"):
        return given
    if not (file := os.environ.get("PERDURE_URL_FILE")):
        return None
    try:
        with open(file, encoding="utf-8") as opened:
            url = opened.read(65536).strip()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"PERDURE_URL_FILE names {file}, which can't be read: {error}. Write the database's url into it"
        raise ConfigurationError(msg) from error
    if not url:
        msg = f"PERDURE_URL_FILE names {file}, which is empty. Write the database's url into it"
        raise ConfigurationError(msg)
    return url


def store_for(url: str) -> Store:
    """The store for a url. Nothing is opened yet.

    Raises:
        ConfigurationError: no store serves such a url.
    """
    scheme, colon, rest = url.partition(":")
    if colon and scheme == "memory" and rest in ("", "//"):
        from perdure.storage.memory import MemoryStore

        return MemoryStore()
    if colon and scheme == "sqlite":
        from perdure.storage.sqlite.store import SqliteStore

        if not rest.startswith("///") or len(rest) == 3:
            msg = f"{common(url)!r} doesn't name a SQLite file. Write one of: {FORMS}"
            raise ConfigurationError(msg)
        path = unquote(rest[3:])
        if path == ":memory:":
            msg = f'{url!r}: SQLite\'s own memory database would be lost with its connection. Use "memory:" for tests'
            raise ConfigurationError(msg)
        return SqliteStore(path)
    if scheme in ("postgres", "postgresql"):
        try:
            from perdure.storage.postgres import PostgresStore
        except ImportError as error:
            msg = f"{scheme}: needs a driver that isn't installed ({error}): pip install 'perdure[postgres]'"
            raise ConfigurationError(msg) from error
        return PostgresStore(url)
    msg = f"{common(url)!r} isn't a database url that Perdure knows. Write one of: {FORMS}"
    raise ConfigurationError(msg)


def auditor_for(url: str) -> Auditor:
    """An auditor of the database at a url, connected.

    Raises:
        ConfigurationError: no database that can be looked at from outside has such a url.
        NotADatabaseError, NewerSchemaError, StoreUnavailableError.
    """
    scheme, _, rest = url.partition(":")
    store_for(url)  # says what is wrong with the url
    if scheme == "sqlite":
        from perdure.storage.sqlite.auditor import SqliteAuditor

        return SqliteAuditor(unquote(rest[3:]))
    if scheme == "memory":
        msg = f"{url} is a database within one process, and can't be looked at from another"
        raise ConfigurationError(msg)
    from perdure.storage.postgres.auditor import PostgresAuditor

    return PostgresAuditor(url)


def schema_at(url: str) -> SchemaState:
    """How the schema of the database at a url stands; nothing is changed.

    Raises:
        ConfigurationError: no database that can be looked at from outside has such a url.
        NotADatabaseError, NewerSchemaError, StoreUnavailableError.
    """
    scheme, _, rest = url.partition(":")
    store_for(url)  # says what is wrong with the url
    if scheme == "sqlite":
        from perdure.storage.sqlite.schema import schema_of as of_file

        return of_file(os.path.abspath(unquote(rest[3:])))
    if scheme == "memory":
        msg = f"{url} is a database within one process, and can't be looked at from another"
        raise ConfigurationError(msg)
    from perdure.storage.postgres.schema import schema_of

    return schema_of(url)


def shown_url(url: str) -> str:
    """A url for people and records: without a password, and a file by its absolute path."""
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite" and rest.startswith("///"):
        return f"sqlite:///{os.path.abspath(unquote(rest[3:]))}"
    parts = urlsplit(url)
    name, at, host = parts.netloc.rpartition("@")
    kept = [item for item in parts.query.split("&") if not item.startswith("password=")]
    user = name.partition(":")[0]
    asked = "&".join(kept)
    return f"{scheme}://{user}{at}{host}{parts.path}{'?' if asked else ''}{asked}"
