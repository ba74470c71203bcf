"""The HTTP API and what stands behind it: an ASGI application over an engine.

    app.py        puts the parts together
    gate.py       the one place that lets requests in: hosts, origins, who asks, what they may, the audit log
    access.py     who may do what: tokens (hashed), a reverse proxy's header, nobody but this machine
    problems.py   errors as problem details (RFC 9457)
    shapes.py     what goes in and out, as OpenAPI tells it
    runs.py       looking at runs; actions.py: what is done with them
    events.py     histories and streams as server-sent events
    people.py     what runs ask of people; budgets
    agents.py     the same for agents, by MCP
    hooks.py      webhooks as code declares them; signatures.py: what proves them; receiving.py: taking them
    serving.py    the server
    client.py     HttpClient, the other side; remote.py: its handles
    fleet.py      workers, queues, limits, schedules, callbacks, costs

FastAPI and uvicorn come with `pip install 'perdure[server]'`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perdure.web.access import Access as Access
    from perdure.web.access import Proxy as Proxy
    from perdure.web.access import Role as Role
    from perdure.web.access import Tokens as Tokens
    from perdure.web.app import create_app as create_app
    from perdure.web.client import HttpClient as HttpClient
    from perdure.web.hooks import Delivery as Delivery
    from perdure.web.hooks import Hook as Hook
    from perdure.web.hooks import Publish as Publish
    from perdure.web.hooks import Send as Send
    from perdure.web.hooks import Start as Start
    from perdure.web.hooks import hook as hook
    from perdure.web.signatures import new_secret as new_secret
    from perdure.web.signatures import sign as sign

#: Where the public names are; they are imported when they are used: a client needs no server.
_PLACES = {
    "Access": "perdure.web.access",
    "Delivery": "perdure.web.hooks",
    "Hook": "perdure.web.hooks",
    "HttpClient": "perdure.web.client",
    "Proxy": "perdure.web.access",
    "Publish": "perdure.web.hooks",
    "Role": "perdure.web.access",
    "Send": "perdure.web.hooks",
    "Start": "perdure.web.hooks",
    "Tokens": "perdure.web.access",
    "create_app": "perdure.web.app",
    "hook": "perdure.web.hooks",
    "new_secret": "perdure.web.signatures",
    "sign": "perdure.web.signatures",
}

__all__ = [
    "Access",
    "Delivery",
    "Hook",
    "HttpClient",
    "Proxy",
    "Publish",
    "Role",
    "Send",
    "Start",
    "Tokens",
    "create_app",
    "hook",
    "new_secret",
    "sign",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    try:
        return getattr(import_module(_PLACES[name]), name)
    except ModuleNotFoundError as error:
        msg = f"perdure.web.{name} needs {error.name}, which isn't installed: pip install 'perdure[server]'"
        raise ImportError(msg) from error
