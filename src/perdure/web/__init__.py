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
    serving.py    the server
    client.py     HttpClient, the other side; remote.py: its handles
    fleet.py      workers, queues, limits, schedules, callbacks, costs

FastAPI and uvicorn come with `pip install 'perdure[server]'`.
"""

from perdure.web.access import Access, Proxy, Role, Tokens
from perdure.web.app import create_app

__all__ = ["Access", "Proxy", "Role", "Tokens", "create_app"]
