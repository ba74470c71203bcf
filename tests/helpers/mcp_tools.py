"""An MCP server whose calls are written down, started by tests: `python mcp_tools.py LOG [PORT]`."""

import os
import sys
from pathlib import Path

from mcp.server import MCPServer

LOG = Path(sys.argv[1])
server = MCPServer("tools", log_level="CRITICAL")


def note(what: str) -> None:
    with LOG.open("a") as file:
        file.write(what + "\n")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    note(f"add {a} {b}")
    return a + b


@server.tool()
def forecast(city: str) -> str:
    """The weather in a city."""
    note(f"forecast {city}")
    return f"sunny in {city}"


@server.tool()
def fails(why: str) -> str:
    """Fails."""
    note("fails")
    raise ValueError(why)


@server.tool()
def dies_at_first() -> str:
    """Takes the server with it, once."""
    note("dies_at_first")
    if LOG.read_text().count("dies_at_first") == 1:
        os._exit(3)
    return "alive"


@server.resource("note://today")
def today() -> str:
    """A resource."""
    note("resource")
    return "a fine day"


@server.prompt()
def greeting(name: str) -> str:
    """A prompt."""
    note("prompt")
    return f"Greet {name}."


if __name__ == "__main__":
    note("start")
    if len(sys.argv) > 2:
        server.run("streamable-http", port=int(sys.argv[2]))
    else:
        server.run()
