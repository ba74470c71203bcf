"""What the tests of LangGraph share: a model that follows a script, and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

#: How often models, tools and nodes were really called.
calls: Counter[str] = Counter()


def says(text: str, *, tools: list[tuple[str, str, dict[str, Any]]] = (), tokens: int = 0) -> AIMessage:  # type: ignore[assignment]
    """An answer: a text, tool calls (id, name, arguments), and how many tokens it took in and gave out each."""
    usage = {"input_tokens": tokens, "output_tokens": tokens, "total_tokens": 2 * tokens} if tokens else None
    return AIMessage(
        text,
        tool_calls=[{"id": id, "name": name, "args": args, "type": "tool_call"} for id, name, args in tools],
        usage_metadata=usage,
        response_metadata={"model_name": "gpt-5", "model_provider": "openai"},
    )


class Scripted(BaseChatModel):
    """Gives its n-th answer to a prompt with n - 1 answers in it: the same in every process."""

    script: list[AIMessage]
    model_name: str = "scripted"

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _next(self, messages: list[BaseMessage]) -> AIMessage:
        calls["model"] += 1
        return self.script[sum(isinstance(message, AIMessage) for message in messages)].model_copy(deep=True)

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._next(messages))])

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        answer = self._next(messages)
        manager = kwargs.get("run_manager") or next(
            (arg for arg in args if hasattr(arg, "on_llm_new_token")), None
        )
        for word in str(answer.content).split(" ") if answer.content else []:
            chunk = ChatGenerationChunk(message=AIMessageChunk(word + " "))
            if manager is not None:
                await manager.on_llm_new_token(word + " ", chunk=chunk)
            yield chunk
        yield ChatGenerationChunk(
            message=AIMessageChunk(
                "",
                tool_calls=answer.tool_calls,
                usage_metadata=answer.usage_metadata,
                response_metadata=answer.response_metadata,
            )
        )
