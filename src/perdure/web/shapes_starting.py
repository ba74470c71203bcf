"""What goes in to start runs over HTTP, and to send them messages."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from perdure.web.shapes import CallIn, In, Name, RunId, Seconds


class MessageIn(In):
    value: Any = None
    key: Annotated[str, Field(min_length=1, max_length=255)] | None = Field(
        None, description="A second message of this name and key is ignored."
    )


class NamedMessageIn(MessageIn):
    """A message that a run gets with its start."""

    name: Name


Messages = Annotated[
    list[NamedMessageIn],
    Field(max_length=1000, description="Sent in the same commit; also to a live run to which this attaches."),
]


class StartIn(In):
    """A run to start."""

    workflow: Name = Field(description="The workflow's durable name.", examples=["app.research"])
    args: list[Any] = Field(default_factory=list, description="Positional arguments.")
    kwargs: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments.")
    id: RunId | None = Field(
        None, description="The run's id; starting is idempotent by it. Made up without one."
    )
    queue: Name | None = None
    key: Annotated[str, Field(max_length=255)] | None = None
    priority: Annotated[int, Field(ge=-(2**31), lt=2**31)] = 0
    dedup: Annotated[str, Field(max_length=255)] | None = None
    debounce: Seconds | None = Field(
        None, description="Seconds to wait for more starts of this dedup or key, which take its place."
    )
    debounce_max: Seconds | None = Field(None, description="Seconds after which it begins, whatever comes.")
    delay: Seconds | None = Field(None, description="Seconds until it begins.")
    timeout: Seconds | None = Field(None, description="Seconds after which it is cancelled.")
    messages: Messages = Field(default_factory=list[NamedMessageIn])
    attributes: dict[str, str | int | float | bool | list[str]] = Field(default_factory=dict)
    if_exists: Literal["attach", "fail", "restart"] = "attach"
    subject: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None, description="Whose data it holds; the server has to have keys."
    )


class OneOfManyIn(CallIn):
    workflow: Name = Field(description="The workflow's durable name.")
    id: RunId | None = None
    key: Annotated[str, Field(max_length=255)] | None = None
    dedup: Annotated[str, Field(max_length=255)] | None = None


class StartManyIn(In):
    """Runs to start in one commit: all of them, or none."""

    runs: Annotated[list[OneOfManyIn], Field(min_length=1, max_length=1000)]
    queue: Name | None = None
    priority: Annotated[int, Field(ge=-(2**31), lt=2**31)] = 0
    delay: Seconds | None = Field(None, description="Seconds until they begin.")
    timeout: Seconds | None = Field(None, description="Seconds after which they are cancelled.")
    messages: Messages = Field(default_factory=list[NamedMessageIn])
    attributes: dict[str, str | int | float | bool | list[str]] = Field(default_factory=dict)
    if_exists: Literal["attach", "fail", "restart"] = "attach"
    subject: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None, description="Whose data they hold; the server has to have keys."
    )
