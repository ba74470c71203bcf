"""`perdure lint`: each rule finds its bad example and not its good one, which works; and there are no false alarms."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import perdure
from conftest import Cli
from perdure.cli.linting.files import Report, lint, lint_file, python_files
from perdure.cli.linting.rules import BY_CODE, RULES, Rule
from perdure.runtime import definitions

ROOT = Path(__file__).parents[2]

#: Deliberate on a page: what goes wrong if code isn't as it should be.
DELIBERATE = {"what-workflow-code-may-do.md": {"PDR004"}}
#: What these find is as they say, and tests do it on purpose: to see what comes of it, or to look at runs from outside.
SURE = {"PDR001", "PDR002", "PDR003", "PDR004", "PDR005", "PDR006", "PDR007", "PDR008", "PDR010", "PDR014"}


def codes(report: Report) -> list[str]:
    assert report.problem is None
    return [finding.code for finding in report.findings]


@pytest.fixture
def no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "_workflows", dict(definitions._workflows))
    monkeypatch.setattr(definitions, "_steps", dict(definitions._steps))


@pytest.mark.parametrize("rule", RULES, ids=[rule.code for rule in RULES])
@pytest.mark.usefixtures("no_trace")
def test_a_rule_finds_its_bad_example_and_its_good_one_works(
    rule: Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(codes(lint(rule.bad))) == {rule.code}
    assert codes(lint(rule.good)) == []
    for number, source in enumerate((rule.bad, rule.good)):
        module = ModuleType(f"example_{rule.code}_{number}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(source, module.__name__, "exec"), vars(module))
    perdure.run(module.example(), url="memory:")


def test_rules_are_numbered_and_told() -> None:
    assert [rule.code for rule in RULES] == [f"PDR{number:03}" for number in range(1, len(RULES) + 1)]
    page = (ROOT / "docs" / "guide" / "lint.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(PDR\d+)` \| ([^|]+) \|", page, re.MULTILINE)
    assert rows == [(rule.code, rule.name) for rule in RULES]


# -- no false alarms --------------------------------------------------------------------------------------


def test_the_examples_and_the_package_are_clean() -> None:
    for path in python_files([ROOT / "examples", ROOT / "src"]):
        assert codes(lint_file(path)) == [], path


def test_the_pages_are_clean() -> None:
    fence = re.compile(r"^```python[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    for page in [ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md"))]:
        for match in fence.finditer(page.read_text(encoding="utf-8")):
            found = set(codes(lint(match[1])))
            assert found <= DELIBERATE.get(page.name, set()), f"{page.name}: {match[1]}"


def test_rules_that_reason_find_nothing_in_the_workflows_of_the_tests() -> None:
    for path in python_files([ROOT / "tests"]):
        report = lint_file(path)
        if report.problem is None:
            assert set(codes(report)) <= SURE, report


FINE = [
    "return asyncio.get_running_loop().time()",
    "done, _ = await asyncio.wait({asyncio.create_task(fetch(n)) for n in 'ab'}); return [t.result() for t in done]",
    "tasks = {asyncio.create_task(fetch(n)) for n in 'ab'}; return [await task for task in tasks]",
    "names = {'a', 'b'}; return len(names), 'a' in names, sorted(names), max(names), set(names) | {'c'}",
    "names = {'a', 'b'}; return sum(len(name) for name in names), all(name for name in names)",
    "numbers = {3, 1}; return [number for number in numbers]",
    "random = perdure.random; return random()",
    "return random.Random(7).random()",
    "return uuid.uuid5(uuid.NAMESPACE_URL, 'x').hex",
    "return datetime.fromisoformat('2026-05-04'), datetime.fromtimestamp(0, UTC)",
    "return time.strftime('%Y', time.gmtime(0))",
    "open = len; return open('x')",
    "def inner(input: str) -> str: return input.upper()\n    return inner('x')",
    "names = []; names.append(1); names[0] = 2; return names",
    "call = fetch('a'); return await call",
    "return await asyncio.gather(fetch('a'), fetch('b'))",
    "return await perdure.start(fetch('a'))",
    "try:\n        return await fetch('a')\n    except BaseException:\n        print('x')\n        raise",
    "try:\n        return await fetch('a')\n    except asyncio.CancelledError:\n        return 'cancelled'",
    "ITEMS.set(3); return ITEMS.get()",
    "return CONSTANTS['a'], [*CONSTANTS]",
    "count = 0\n    def more() -> None:\n        nonlocal count\n        count += 1\n    more(); return count",
    "@perdure.step\n    async def now() -> float:\n        return time.time()\n    return await now()",
    "return os.path.join('a', 'b'), os.sep",
    "return getattr(perdure.info(), 'id')",
]

FOUND = [
    ("PDR001", "return datetime.now()"),
    ("PDR001", "return datetime.now(UTC).isoformat()"),
    ("PDR001", "return time.strftime('%Y')"),
    ("PDR001", "return helper()"),
    ("PDR001", "return await deeper()"),
    ("PDR001", "return [f() for f in (lambda: time.time(),)]"),
    ("PDR001", "return await perdure.map(deeper, [1])"),
    ("PDR002", "return choice([1, 2])"),
    ("PDR002", "random.shuffle([1]); return 1"),
    ("PDR002", "return secrets.token_hex()"),
    ("PDR002", "return os.urandom(3)"),
    ("PDR004", "return requests.get('http://x').text"),
    ("PDR004", "return httpx.get('http://x').text"),
    ("PDR004", "return urllib.request.urlopen('http://x')"),
    ("PDR004", "return await asyncio.open_connection('x', 1)"),
    ("PDR004", "return Path('x').read_text()"),
    ("PDR004", "return input('who?')"),
    ("PDR005", "return await asyncio.create_subprocess_exec('ls')"),
    ("PDR006", "return await asyncio.get_running_loop().run_in_executor(None, len, 'x')"),
    ("PDR006", "threading.Thread(target=len).start()"),
    ("PDR008", "return os.getenv('HOME')"),
    ("PDR008", "return os.environ.get('HOME')"),
    ("PDR008", "return 'HOME' in os.environ"),
    ("PDR009", "return await asyncio.gather(*{fetch('a'), fetch('b')})"),
    ("PDR009", "return await perdure.map(fetch, {'a', 'b'})"),
    ("PDR009", "return {name: await fetch(name) for name in set('ab')}"),
    ("PDR009", "return list({'a', 'b'} | {'c'})"),
    ("PDR009", "return dict.fromkeys({'a', 'b'})"),
    ("PDR009", "return ', '.join({'a', 'b'})"),
    ("PDR009", "names: set[str] = load(); return [*names]"),
    ("PDR009", "names = {'a', 'b'}; return names.pop()"),
    ("PDR009", "names = {'a', 'b'}\n    for name in names:\n        await fetch(name)"),
    ("PDR010", "global COUNT; COUNT += 1"),
    ("PDR010", "CONSTANTS['a'] = 2"),
    ("PDR010", "CONSTANTS.update(a=2)"),
    ("PDR011", "asyncio.sleep(3)"),
    ("PDR011", "perdure.receive('x')"),
    ("PDR011", "quiet()"),
    ("PDR014", "try:\n        return await fetch('a')\n    except:\n        return 1"),
    (
        "PDR014",
        "try:\n        return await fetch('a')\n    except (ValueError, BaseException):\n        return 1",
    ),
    ("PDR015", "return id(fetch)"),
]

MODULE = """
import asyncio, httpx, os, random, requests, secrets, threading, time, urllib.request, uuid
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from random import choice

import perdure
import perdure as p
from perdure import workflow as flow

ITEMS: ContextVar[int] = ContextVar("items")
CONSTANTS = {"a": 1}
COUNT = 0

@perdure.step
async def fetch(name: str) -> str:
    return name + str(time.time())

def load() -> set[str]:
    return set()

def helper() -> float:
    return time.time()

async def quiet() -> None: ...

async def deeper(item: int = 0) -> float:
    return helper()
"""


def in_workflow(body: str, decorator: str = "@perdure.workflow") -> Report:
    return lint(f"{MODULE}\n{decorator}\nasync def example() -> object:\n    {body}\n")


@pytest.mark.parametrize("body", FINE)
def test_what_replays_is_not_reported(body: str) -> None:
    assert codes(in_workflow(body)) == []


@pytest.mark.parametrize(("code", "body"), FOUND, ids=[f"{code}-{body[:40]}" for code, body in FOUND])
def test_what_does_not_replay_is_reported(code: str, body: str) -> None:
    assert set(codes(in_workflow(body))) == {code}


@pytest.mark.parametrize("decorator", ["@p.workflow", "@flow", "@flow(name='x')", "@p.workflow(pinned=True)"])
def test_workflows_are_known_by_any_name_of_the_decorator(decorator: str) -> None:
    assert codes(in_workflow("return time.time()", decorator)) == ["PDR001"]


def test_code_outside_of_workflows_may_do_what_it_likes() -> None:
    assert (
        codes(lint(f"{MODULE}\nasync def main() -> None:\n    time.time(); open('x'); os.environ['x']\n"))
        == []
    )
    assert codes(lint("import other\n\n@other.workflow\nasync def example() -> None:\n    open('x')\n")) == []


def test_methods_of_entities_and_handlers_are_workflow_code() -> None:
    entity = (
        f"{MODULE}\n@perdure.entity\nclass Cart:\n    state: dict[str, int]\n\n"
        "    async def add(self, item: str) -> None:\n        self.state[item] = int(time.time())\n"
    )
    assert codes(lint(entity)) == ["PDR001"]
    handler = in_workflow("perdure.on_update(deeper); await asyncio.sleep(9)")
    assert codes(handler) == ["PDR001"]


def test_a_workflow_without_guard_is_not_told_what_the_guard_would_stop() -> None:
    off = "@perdure.workflow(guard=False)"
    assert codes(in_workflow("return open('x').read()", off)) == []
    assert codes(in_workflow("return time.time()", off)) == ["PDR001"]


def test_durable_http_makes_clients_durable() -> None:
    source = "return httpx.AsyncClient()"
    assert codes(in_workflow(source)) == ["PDR004"]
    report = lint(
        f"from perdure.ai import durable_http\n{MODULE}\n@flow\nasync def w() -> object:\n    {source}\n"
    )
    assert codes(report) == []


def test_noqa_lets_a_line_pass() -> None:
    line = "return time.time()"
    assert codes(in_workflow(f"{line}  # noqa: PDR001 - for a reason")) == []
    assert codes(in_workflow(f"{line}  # noqa: E501, PDR001")) == []
    assert codes(in_workflow(f"{line}  # noqa")) == []
    assert codes(in_workflow(f"{line}  # noqa: PDR002")) == ["PDR001"]
    assert codes(in_workflow("return '# noqa: PDR001', time.time()")) == ["PDR001"]
    assert codes(in_workflow("return max(\n        time.time(),\n        1,\n    )  # noqa: PDR001")) == [
        "PDR001"
    ]


# -- the command ------------------------------------------------------------------------------------------


def module_in(folder: Path, name: str = "flows_to_lint.py") -> Path:
    path = folder / name
    path.write_text(
        "import time\n\nimport perdure\n\n\n@perdure.workflow\nasync def w() -> float:\n    return time.time()\n"
    )
    return path


def test_findings_are_written_as_other_linters_do(cli: Cli) -> None:
    module_in(cli.folder)
    (cli.folder / ".venv").mkdir()
    module_in(cli.folder / ".venv")
    outcome = cli("lint")
    assert outcome.code == 1
    assert outcome.out == (
        "flows_to_lint.py:8:12: PDR001 time.time(): reads the clock, which differs on replay in workflow w\n"
    )
    assert "1 finding in 1 file" in outcome.err
    assert cli("lint", "--ignore", "PDR001").code == 0
    assert cli("lint", "--select", "pdr002", "flows_to_lint.py").code == 0
    (entry,) = cli("lint", "--format", "json").json
    assert (entry["path"], entry["line"], entry["column"], entry["code"]) == (
        "flows_to_lint.py",
        8,
        12,
        "PDR001",
    )
    github = cli("lint", "--format", "github").out
    assert github.startswith(
        "::error file=flows_to_lint.py,line=8,col=12,endLine=8,title=PDR001::time.time()"
    )


def test_what_cannot_be_read_is_told(cli: Cli) -> None:
    assert "There are no Python files" in cli.fails("lint")
    assert "There is no file or folder" in cli.fails("lint", "nowhere")
    (cli.folder / "broken.py").write_text("def f(:\n")
    outcome = cli("lint", "broken.py")
    assert outcome.code == 2
    assert outcome.out.startswith("broken.py:1:7: can't be parsed")
    assert json.loads(cli("lint", "--format", "json").out)[0]["code"] is None


def test_rules_are_explained(cli: Cli) -> None:
    outcome = cli("lint", "--explain", "pdr009")
    assert outcome.code == 0
    for part in ("PDR009: order of a set", "PYTHONHASHSEED", "sorted(names)"):
        assert part in outcome.out
    assert "Did you mean PDR010 or PDR001" in cli.fails("lint", "--explain", "PDR0010")
    listed = cli("lint", "--rules").out.splitlines()
    assert [line.split()[0] for line in listed] == list(BY_CODE)
