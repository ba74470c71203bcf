"""Tools of an MCP server, used by a workflow that is killed with SIGKILL in the middle, server and all.

    python examples/mcp_tools.py

The server is a real one, in a process of its own, and offers a warehouse. The workflow lists its tools, reserves three
things and ships them. Its process dies between two calls; another one starts the server again, and goes on: what was
reserved stays reserved, and nothing is reserved twice. It needs no network.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from mcp import StdioServerParameters
from mcp.server import MCPServer

import perdure
from perdure.integrations.mcp import durable_session, mcp_tools

FOLDER = Path(os.environ.get("WAREHOUSE_FOLDER", "."))
BOOKS = FOLDER / "books.txt"  #: what the server has really done
PLAN_A_CRASH = "WAREHOUSE_CRASHES"

# -- the workflow ---------------------------------------------------------------------------------------

warehouse = durable_session(
    "warehouse",
    StdioServerParameters(command=sys.executable, args=[__file__, "serve"], env=dict(os.environ)),
)


@perdure.workflow
async def ship(order: str, things: list[str]) -> str:
    tools = await mcp_tools(warehouse)
    shelves: list[str] = []
    for thing in things:
        reserved = await tools["reserve"]({"order": order, "thing": thing}, key=thing)
        assert reserved.structured_content is not None
        shelves.append(f"{thing} from {reserved.structured_content['result']}")
        if len(shelves) == 2 and PLAN_A_CRASH in os.environ:  # noqa: PDR008 - the crash that is shown
            os.kill(os.getpid(), signal.SIGKILL)  # noqa: PDR008
    await tools["ship"]({"order": order})
    return ", ".join(shelves)


async def work() -> None:
    async with perdure.Engine(f"sqlite:///{FOLDER / 'orders.db'}") as engine:
        print(await engine.run(ship("order-7", ["tent", "lamp", "stove"]), id="order-7"))


# -- the server -----------------------------------------------------------------------------------------

server = MCPServer("warehouse", log_level="CRITICAL")


def write(line: str) -> None:
    with BOOKS.open("a") as file:
        file.write(line + "\n")


@server.tool()
def reserve(order: str, thing: str) -> str:
    """Reserves a thing for an order, and tells its shelf."""
    write(f"reserved {thing}")
    return f"shelf {len(thing)}"


@server.tool(name="ship")
def ship_it(order: str) -> str:
    """Ships what is reserved for an order."""
    write("shipped")
    return "shipped"


# -- the show -------------------------------------------------------------------------------------------


def live(folder: str, **more: str) -> int:
    """One life of the workflow's process."""
    environment = {**os.environ, "WAREHOUSE_FOLDER": folder, **more}
    return subprocess.run([sys.executable, __file__, "work"], env=environment, check=False).returncode


def show() -> None:
    with tempfile.TemporaryDirectory() as folder:
        died = live(folder, **{PLAN_A_CRASH: "1"}) != 0
        books = Path(folder, "books.txt")
        print(
            f"the first process {'was killed' if died else 'ended'} after: {', '.join(books.read_text().splitlines())}"
        )
        assert live(folder) == 0
        print(f"the server has done in all: {', '.join(books.read_text().splitlines())}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            server.run()
        case ["work"]:
            asyncio.run(work())
        case _:
            show()
