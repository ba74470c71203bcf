"""What the history holds of an agent's steps: what pydantic-ai's own codec makes of their results.

A tool's record also has what the tool has used itself. Agents that it has asked add to their caller's usage, which a
replay, where the tool doesn't run, has to do again.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, cast

from pydantic import TypeAdapter
from pydantic_ai.usage import RunUsage

from perdure.codec.values import ValueCodec
from perdure.errors import NotSerializableError, UndecodableError

__all__ = ["Record", "ToolRecord", "ToolResult"]

_USED = "used"
_usage: TypeAdapter[RunUsage] = TypeAdapter(RunUsage)


class Codec(Protocol):
    """An operation's own codec of results."""

    def dump(self, value: Any) -> object: ...
    def load(self, payload: object) -> Any: ...


class ToolResult(NamedTuple):
    """What came of a call of a tool.

    Attributes:
        used: what it has used itself, by agents that it has asked.
    """

    value: Any
    used: RunUsage | None


class Record:
    """Carries the results of one operation.

    A record that doesn't fit any more blocks the run. As the ValidationError that it is, a tool's would look like an
    answer to the model, which would call the tool again.
    """

    def __init__(self, name: str, codec: Codec) -> None:
        self._where = f"result of step {name}"
        self._codec = codec
        self._json = ValueCodec[Any](Any, self._where)

    def record(self, value: Any) -> tuple[bytes, Any]:
        """See `Carrier.record`."""
        try:
            payload = self.payload(value)
        # Serializers of models are user code, and raise what they like.
        except Exception as error:
            raise NotSerializableError(f"The {self._where} can't be recorded: {_told(error)}") from error
        data, plain = self._json.record(payload)
        try:
            return data, self.value(plain)
        except Exception as error:
            raise NotSerializableError(
                f"The {self._where} can't be recorded: it wouldn't come back from its own JSON ({_told(error)})"
            ) from error

    def decode(self, data: bytes) -> Any:
        """See `Carrier.decode`."""
        plain = self._json.decode(data)
        try:
            return self.value(plain)
        except Exception as error:
            raise UndecodableError(
                f"The recorded {self._where} can't be read: {_told(error)}. The type has changed since it was "
                "recorded, or another version of pydantic-ai has written it. Let the type read the old value again, or "
                "bring back the code that wrote it; the run goes on by itself then."
            ) from error

    def payload(self, value: Any) -> Any:
        """The plain data of a result."""
        return self._codec.dump(value)

    def value(self, payload: Any) -> Any:
        """The result that plain data tells of."""
        return self._codec.load(payload)


class ToolRecord(Record):
    """Carries what came of calls of tools."""

    def payload(self, value: Any) -> Any:
        result: ToolResult = value
        payload = cast("dict[str, Any]", super().payload(result.value))
        if result.used is not None:
            payload |= {_USED: _usage.dump_python(result.used, mode="json", exclude_defaults=True)}
        return payload

    def value(self, payload: Any) -> Any:
        told: dict[str, Any] = {"kind": "tool_return", "result": payload}  # what a fork gives in its place
        if isinstance(payload, dict) and "kind" in payload:
            told = dict(cast("dict[str, Any]", payload))
        used = told.pop(_USED, None)
        return ToolResult(super().value(told), None if used is None else _usage.validate_python(used))


def _told(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
