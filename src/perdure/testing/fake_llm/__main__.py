"""`python -m perdure.testing.fake_llm`: a fake provider until it is interrupted. Its first line is its address."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from types import FrameType

from perdure.testing.fake_llm.server import FakeLLM


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perdure.testing.fake_llm", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="where to listen on 127.0.0.1; 0 for any")
    parser.add_argument("--requests-per-minute", type=float, help="what goes beyond gets a 429")
    parser.add_argument("--tokens-per-minute", type=float, help="the same for the tokens of prompts")
    parser.add_argument("--burst", type=float, help="how many requests may come at once")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that each answer takes")
    parser.add_argument("--jobs-take", type=float, default=0.0, help="seconds that batches and the like take")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input is closed")
    given = parser.parse_args()
    over = threading.Event()

    def leave(number: int, frame: FrameType | None) -> None:
        over.set()

    def leave_with_parent() -> None:
        sys.stdin.read()
        over.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    llm = FakeLLM(
        requests_per_minute=given.requests_per_minute,
        tokens_per_minute=given.tokens_per_minute,
        burst=given.burst,
        latency=given.latency,
        jobs_take=given.jobs_take,
        port=given.port,
    )
    with llm:
        sys.stdout.write(llm.url + "\n")
        sys.stdout.flush()
        if given.with_parent:
            threading.Thread(target=leave_with_parent, daemon=True).start()
        over.wait()


if __name__ == "__main__":
    main()
