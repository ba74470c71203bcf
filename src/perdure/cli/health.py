"""`perdure health`: asks a process on this machine how it is, for probes that execute a command.

And the other side of it: what a worker answers at its port for probes.
"""

from __future__ import annotations

import http.client
from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
import typer

from perdure.cli.output import out, printable, tell
from perdure.runtime.health import STOPPING, Health
from perdure.runtime.sideport import Answer, Port

#: Where the two questions are answered, at this port and by `perdure serve`.
LIVE, READY = "/healthz", "/readyz"

#: Above what the other side takes at most.
_PATIENCE = 5.0


class _Told(msgspec.Struct, frozen=True):
    """What is said at those paths."""

    status: str
    reasons: tuple[str, ...] = ()


HealthPortOption = Annotated[
    int | None,
    typer.Option(
        "--health-port",
        metavar="PORT",
        min=0,
        max=65535,
        envvar="PERDURE_HEALTH_PORT",
        help=f"Answer {LIVE} and {READY} there, for probes.",
        show_default=False,
    ),
]
HealthHostOption = Annotated[
    str,
    typer.Option(
        "--health-host",
        metavar="HOST",
        envvar="PERDURE_HEALTH_HOST",
        help="Where that is; 0.0.0.0 for probes from outside a container.",
    ),
]


def health(
    port: Annotated[
        int,
        typer.Option(
            "--port", min=1, max=65535, envvar="PERDURE_HEALTH_PORT", help="Of the worker or server to ask."
        ),
    ] = 8700,
    host: Annotated[str, typer.Option("--host", help="Where it is.")] = "127.0.0.1",
    ready: Annotated[
        bool, typer.Option("--ready", help="Ask whether it can work now; else whether it hangs.")
    ] = False,
) -> None:
    """Ask a worker or a server how it is. Exits with 0 if it is well, with 1 if not or if there is no answer."""
    path = READY if ready else LIVE
    try:
        status, told = _ask(host, port, path)
    except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
        tell(f"Nobody answers at http://{host}:{port}{path}: {error or type(error).__name__}")
        raise typer.Exit(1) from error
    reasons = ", ".join(told.reasons)
    out().print(printable(f"{told.status}: {reasons}" if reasons else told.status))
    if status != 200:
        raise typer.Exit(1)


def _ask(host: str, port: int, path: str) -> tuple[int, _Told]:
    connection = http.client.HTTPConnection(host, port, timeout=_PATIENCE)
    try:
        # Under this name whoever listens knows us, wherever it listens.
        connection.request("GET", path, headers={"Host": f"localhost:{port}"})
        answer = connection.getresponse()
        return answer.status, msgspec.json.decode(answer.read(65536), type=_Told)
    finally:
        connection.close()


def health_port(
    host: str, port: int, look: Callable[[], Awaitable[Health]], stopping: Callable[[], bool]
) -> Port:
    """What is answered to probes.

    Args:
        stopping: whether it was told to stop; from that moment it isn't ready, though the engine is still open.
    """

    async def live() -> Answer:
        found = await look()
        return _answer(found.live, found, "live")

    async def ready() -> Answer:
        if stopping():
            return _answer(False, Health(True, False, (STOPPING,)), "ready")
        found = await look()
        return _answer(found.ready, found, "ready")

    return Port(host, port, {LIVE: live, READY: ready})


def _answer(well: bool, found: Health, word: str) -> Answer:
    told = _Told(word if well else f"not {word}", () if well else tuple(found.reasons))
    return Answer(msgspec.json.encode(told), 200 if well else 503)
