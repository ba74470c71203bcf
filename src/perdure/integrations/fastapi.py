"""An engine that lives as long as a FastAPI or Starlette application, and reaches its handlers as a dependency.

engine = perdure.Engine("sqlite:///orders.db")
app = FastAPI(lifespan=lifespan(engine))

@app.post("/orders/{id}")
async def place(id: str, engine: EngineDep) -> None:
    await engine.start(order(id), id=id)
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import HTTPConnection

from perdure.api.engine import Engine
from perdure.errors import ConfigurationError

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]

_KEY = "perdure_engine"


def lifespan(engine: Engine, inner: Lifespan | None = None) -> Lifespan:
    """Open the engine when the application starts, and close it when that stops.

    With its worker, which it has unless you say `worker=False`, the application drives runs as well. Several
    processes of one application, as uvicorn's --workers makes them, share the database: each has its own engine.

    Args:
        inner: a lifespan that the application has already; it begins after the engine and ends before it.

    Example:
        >>> app = FastAPI(lifespan=lifespan(perdure.Engine("sqlite:///orders.db")))  # doctest: +SKIP
    """

    @asynccontextmanager
    async def life(app: Any) -> AsyncGenerator[dict[str, Any]]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(engine)
            state = None if inner is None else await stack.enter_async_context(inner(app))
            yield {**(state or {}), _KEY: engine}

    return life


def engine_of(connection: HTTPConnection) -> Engine:
    """The application's engine, from a request or a web socket.

    Raises:
        ConfigurationError: the application has no engine; give it `lifespan(engine)`.
    """
    found = getattr(connection.state, _KEY, None)
    if found is None:
        msg = (
            "this application has no engine: make it with FastAPI(lifespan=lifespan(engine)), where `lifespan` comes "
            "from perdure.integrations.fastapi"
        )
        raise ConfigurationError(msg)
    engine: Engine = found
    return engine


#: A parameter of a handler that is the application's engine.
EngineDep = Annotated[Engine, Depends(engine_of)]
