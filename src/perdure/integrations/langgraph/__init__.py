"""LangGraph on Perdure: graphs, agents and their threads that survive kill -9, and pay for no call twice.

PerdureSaver        a checkpointer on Perdure's database, inside and outside of runs
PerdureMiddleware   makes the model and the tools of LangChain's `create_agent` durable steps
durable_node        a node, or the function of a `@task`, as a durable step
durable_tool        a tool as a durable step, for graphs of your own
run_to_end          runs a graph in workflow code, and answers its interrupts
ask_person          how it does so by default
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    from perdure.integrations.langgraph import stable
    from perdure.integrations.langgraph.nodes import durable_node, durable_tool
    from perdure.integrations.langgraph.questions import ask_person, run_to_end
    from perdure.integrations.langgraph.saver import PerdureSaver
except ModuleNotFoundError as error:
    msg = f"perdure.integrations.langgraph needs {error.name}, which isn't installed: pip install 'perdure[langgraph]'"
    raise ImportError(msg) from error

if TYPE_CHECKING:
    from perdure.integrations.langgraph.middleware import PerdureMiddleware

__all__ = [
    "PerdureMiddleware",
    "PerdureSaver",
    "ask_person",
    "durable_node",
    "durable_tool",
    "run_to_end",
]

stable.install()


def __getattr__(name: str) -> Any:
    """Agents need the package langchain, which graphs and savers do without."""
    if name != "PerdureMiddleware":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from perdure.integrations.langgraph.middleware import PerdureMiddleware
    except ModuleNotFoundError as error:
        msg = f"PerdureMiddleware needs {error.name}, which isn't installed: pip install 'perdure[langgraph]'"
        raise ImportError(msg) from error
    return PerdureMiddleware
