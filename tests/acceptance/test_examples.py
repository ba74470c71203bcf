"""The examples run as they stand, and the demo's own table says that it worked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from world import PERDURE, REPOSITORY

pytestmark = pytest.mark.acceptance

NO_MODEL = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}


def run(
    folder: Path, *command: str, seconds: float = 60, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env={**NO_MODEL, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def table_of(output: str) -> dict[str, str]:
    """The rows of the demo's final table."""
    return {key.strip(): value.strip() for key, value in re.findall(r"^│(.+?)│(.+?)│$", output, re.MULTILINE)}


@pytest.mark.parametrize(
    "command",
    [(sys.executable, str(REPOSITORY / "examples" / "research_agent.py")), (*PERDURE, "demo")],
    ids=["example", "perdure demo"],
)
def test_the_demo_survives_its_own_death(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = run(tmp_path, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[0].startswith("You will see an agent")
    table = table_of(done.stdout)
    assert table["documents analysed"] == "10"
    assert table["steps executed before the crash"] == "8"
    assert table["steps executed after the crash"] == "14"
    assert table["steps skipped by replay"] == "8"
    assert table["steps that ran twice"] == "0"
    assert table["verdict"] == "every recorded step ran exactly once"
    lines = [json.loads(line) for line in (tmp_path / ".demo" / "ledger.jsonl").read_text().splitlines()]
    assert len(lines) == len({line["step"] for line in lines}) == 22
    assert len({line["pid"] for line in lines}) == 2
    assert (tmp_path / ".demo" / "report.md").read_text().count("## ") == 10
    again = run(tmp_path, *command)
    assert again.returncode == 0, "a second demo starts afresh"


class FakeModel(BaseHTTPRequestHandler):
    """Answers like both model services; every fifth request is told to come back later."""

    requests = 0

    def do_POST(self) -> None:
        FakeModel.requests += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        if FakeModel.requests % 5 == 0:
            self.send_response(429)
            self.send_header("Retry-After", "0")
            self.end_headers()
            return
        answer = {"choices": [{"message": {"content": "In short."}}], "content": [{"text": "In short."}]}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def model_server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeModel)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("service", ["OPENAI", "ANTHROPIC"])
def test_the_demo_asks_a_model_and_waits_when_told_to(
    tmp_path: Path, model_server: str, service: str
) -> None:
    script = str(REPOSITORY / "examples" / "research_agent.py")
    settings = {f"{service}_API_KEY": "none", f"{service}_BASE_URL": model_server}
    done = run(tmp_path, sys.executable, script, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert table_of(done.stdout)["verdict"] == "every recorded step ran exactly once"
    assert "In short." in (tmp_path / ".demo" / "report.md").read_text()


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("openai_agents_team.py", "tools were executed for Rome, Oslo, Lisbon"),
        ("pydantic_ai_agent.py", "tools were executed: look_up moss, look_up fern, look_up sundew, publish"),
        ("langgraph_agent.py", "the others had to do: look_up fern, look_up sundew, model, model"),
        ("mcp_tools.py", "in all: reserved tent, reserved lamp, reserved stove, shipped"),
    ],
)
def test_agents_and_their_tools_survive_their_own_death(tmp_path: Path, name: str, wanted: str) -> None:
    done = run(tmp_path, sys.executable, str(REPOSITORY / "examples" / name))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the first process was killed after" in done.stdout
    assert wanted in done.stdout


def test_an_approval_survives_the_death_of_whoever_waits_for_it(tmp_path: Path) -> None:
    done = run(tmp_path, sys.executable, str(REPOSITORY / "examples" / "approval.py"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "Nine facts about tardigrades, with a small one.png"
    assert len([line for line in lines if "drafts something" in line]) == 1
    assert not [line for line in lines if "buys a large one" in line]


def test_a_trace_survives_the_death_of_who_tells_it(tmp_path: Path) -> None:
    done = run(tmp_path, sys.executable, str(REPOSITORY / "examples" / "traced.py"), TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "-- the first process ended with -9"
    assert "-- 1 trace, 10 spans" in lines
    assert lines[-1] == "    step traced.publish"


@pytest.mark.parametrize("name", ["hello.py", "order.py"])
def test_the_other_examples(tmp_path: Path, name: str) -> None:
    done = run(tmp_path, sys.executable, str(REPOSITORY / "examples" / name))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    wanted = {"hello.py": "['hello ada', 'hello grace', 'hello everybody']", "order.py": "changed my mind"}
    assert wanted[name] in done.stdout


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (
            "order_saga.py",
            [
                "killed -9 while it undid",
                "piano -> given back, as no ship goes to Atlantis",
                "warehouse: reserve teapot, reserve piano, release piano",
                "bank: charge teapot 1990, charge piano 1990, refund piano 1990",
            ],
        ),
        (
            "document_pipeline.py",
            ["kill -9 in the middle", "{'documents': 990, 'broken': 10, 'words': 4950}"],
        ),
        ("subscription.py", ["rejected: there is no plan 'gold'", "'plan': 'plus'", "generation 3 has"]),
        ("crawler.py", ["30 pages, 31 requests"]),
        (
            "tool_agent.py",
            [
                "the first process ended with -9",
                "5 calls of the model; search moss, search lichen, compare moss lichen, save report.txt",
            ],
        ),
        ("sliding_window.py", ["as it should be: True", "at most 8 children at once"]),
        (
            "resource_pool.py",
            ["10 pages are printed", "all is given back: {'free': 3, 'lent': 0, 'waiting': 0}"],
        ),
        ("updatable_timer.py", ["due in 24 hours", "put off: due in 7 days", "remember: water the moss"]),
        ("dsl.py", ["refused: there is no action 'format_disk'", "b was larger, a is 33\n10 events"]),
        (
            "bank_transfer.py",
            ["20 bookings of 20190 cents, as it should be: True", "30000 cents, as before: True"],
        ),
    ],
)
def test_patterns_in_plain_code(tmp_path: Path, name: str, wanted: list[str]) -> None:
    done = run(tmp_path, sys.executable, str(REPOSITORY / "examples" / name), TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    for text in wanted:
        assert text in done.stdout, done.stdout
    if name == "bank_transfer.py":
        assert done.stdout.count("kill -9") == 3
    if name == "crawler.py":
        (most,) = re.findall(r"at most (\d+) requests within a second", done.stdout)
        assert int(most) <= 20


def test_the_example_of_model_calls(tmp_path: Path) -> None:
    pytest.importorskip("anthropic", reason="the client of Anthropic isn't installed")
    done = run(tmp_path, sys.executable, str(REPOSITORY / "examples" / "model_calls.py"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "billed 5 calls" in lines[1]
    assert "2 calls, the others were there already" in lines[2]


def test_a_refund_that_a_crash_would_pay_twice_is_found(tmp_path: Path) -> None:
    done = run(tmp_path, sys.executable, str(REPOSITORY / "examples" / "surviving_crashes.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "careless_refund: 1 of 8 crashes changed something" in done.stdout
    assert "after it, it found 800" in done.stdout
    assert "none of them changed anything" in done.stdout.splitlines()[-1]


def test_unmodified_clients_pay_once(tmp_path: Path) -> None:
    done = run(tmp_path, sys.executable, str(REPOSITORY / "examples" / "unmodified_sdks.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "again;  calls that were paid for: " in done.stdout


def test_another_prompt_is_tried_for_the_price_of_one_call(tmp_path: Path) -> None:
    done = run(tmp_path, sys.executable, str(REPOSITORY / "examples" / "iterate.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert done.stdout.count("mailed 1 lines") == 1
    assert "the provider has billed 11 calls" in done.stdout
    assert "the provider has billed 1 call more, and nothing was mailed" in done.stdout
    assert "10 steps are taken over" in done.stdout


def test_an_agent_that_everything_happens_to_pays_for_each_call_once(
    tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """Killed three times, turned away, out of money, and approved: the provider's books and ours agree."""
    done = run(tmp_path, sys.executable, str(REPOSITORY / "examples" / "paid_once.py"), seconds=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("kill -9") == 3
    assert "blocked: step 'llm:claude-haiku-4-5' has no money to begin" in done.stdout
    assert "ada says yes" in done.stdout
    table = table_of(done.stdout)
    assert table["calls of an uninterrupted run"] == "41"
    in_flight = int(table["calls in flight when it was killed"])
    assert int(table["calls that the provider has billed"]) == 41 + in_flight
    assert int(table["requests that it has turned away"]) > 0
    assert int(table["calls that weren't made again"]) > 0
    figure(f"41 calls, 3 kills, {in_flight} in flight: {table['calls that the provider has billed']} billed")


def test_webhooks_count_once_though_the_receiver_dies(tmp_path: Path) -> None:
    done = run(tmp_path, sys.executable, str(REPOSITORY / "examples" / "webhook_receiver.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "120.00 were paid, and parcel-7 is on its way"
    assert "msg-2 finds nobody" in lines
    assert "a forged one is answered 401" in lines
    assert len([line for line in lines if "ships the tent" in line]) == 1
