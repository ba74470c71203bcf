"""A fake provider of language models: a server on this machine that speaks the wire formats of OpenAI (chat
completions, responses and embeddings), Anthropic (messages) and Google (generateContent), streams included.

Programs use it with the real clients, by another base URL. Answers are deterministic, calls are counted as the
provider would bill them, limits and faults are played as the provider in question would tell of them. Nothing
but the standard library serves.

    exchange.py    prompts, replies, what a call is billed as
    *_wire.py      one provider's way to ask and to answer
    jobs.py        background responses and batches
    faults.py      what can go wrong; limits.py: how much is let in
    provider.py    books, script, decisions
    server.py      FakeLLM, in a thread; process.py: FakeLLMProcess, by `python -m perdure.testing.fake_llm`
"""

from perdure.testing.fake_llm.exchange import Answer, Call, Prompt, Reply, Tokens, Tool, echo, tokens_of
from perdure.testing.fake_llm.faults import (
    Fault,
    bad_request,
    cut,
    hang,
    lost,
    overloaded,
    quota_used_up,
    rate_limited,
    server_error,
    unauthorised,
    usage_cap,
)
from perdure.testing.fake_llm.process import FakeLLMProcess, RunningLLM
from perdure.testing.fake_llm.server import FakeLLM

__all__ = [
    "Answer",
    "Call",
    "FakeLLM",
    "FakeLLMProcess",
    "Fault",
    "Prompt",
    "Reply",
    "RunningLLM",
    "Tokens",
    "Tool",
    "bad_request",
    "cut",
    "echo",
    "hang",
    "lost",
    "overloaded",
    "quota_used_up",
    "rate_limited",
    "server_error",
    "tokens_of",
    "unauthorised",
    "usage_cap",
]
