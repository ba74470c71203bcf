"""Logs that tell of which run, step and worker they are, for people and for machines."""

from perdure.api.logs import ContextFilter, JsonFormatter, TextFormatter, configure

__all__ = ["ContextFilter", "JsonFormatter", "TextFormatter", "configure"]
