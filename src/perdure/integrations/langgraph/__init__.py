"""LangGraph on Perdure: graphs, agents and their threads that survive kill -9, and pay for no call twice.

PerdureSaver        a checkpointer on Perdure's database, inside and outside of runs
"""

from __future__ import annotations

try:
    from perdure.integrations.langgraph import stable
    from perdure.integrations.langgraph.saver import PerdureSaver
except ModuleNotFoundError as error:
    msg = f"perdure.integrations.langgraph needs {error.name}, which isn't installed: pip install 'perdure[langgraph]'"
    raise ImportError(msg) from error

__all__ = ["PerdureSaver"]

stable.install()
