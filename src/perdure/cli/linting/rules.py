"""The rules: each with its code, why it is one, what to write instead, and code that breaks and that keeps it.

A rule is about what Perdure doesn't make deterministic by itself. Plain asyncio is, in workflow code, and so are
`loop.time()` and the order of sets of tasks; those are never reported. Tests lint both examples of each rule, and run
the good one.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        code: PDR and a number; a retired one isn't used again.
        name: a few words.
        why: what goes wrong.
        fix: what to write instead.
        bad, good: modules with a workflow `example`.
        guarded: the guard raises there as well, so `@workflow(guard=False)` switches the rule off.
    """

    code: str
    name: str
    why: str
    fix: str
    bad: str
    good: str
    guarded: bool = False


def _module(*lines: str) -> str:
    return "\n".join(lines) + "\n"


def _workflow(imports: str, *body: str, before: str = "", result: str = "object") -> str:
    head = [*(f"import {name}" for name in imports.split()), "", "import perdure", ""]
    helper = [before, ""] if before else []
    function = [f"async def example() -> {result}:", *(f"    {line}" for line in body)]
    return _module(*head, *helper, "@perdure.workflow", *function)


_STEP = "@perdure.step\nasync def fetch(name: str) -> str:\n    return name\n"

RULES = (
    Rule(
        "PDR001",
        "clock",
        "The clock shows another time when the run is replayed. A branch or an argument that depends on it diverges.",
        "perdure.now(): the time of the event that woke the run. Measure how long something takes inside a step.",
        _workflow("time", "return time.time()"),
        _workflow("", "return perdure.now().isoformat()"),
    ),
    Rule(
        "PDR002",
        "random",
        "Random numbers are others when the run is replayed.",
        "perdure.random(), which is seeded by the run; or random.Random(perdure.random()) for other distributions.",
        _workflow("random", "return random.random()"),
        _workflow("random", "return random.Random(perdure.random()).randint(1, 6)"),
    ),
    Rule(
        "PDR003",
        "uuid",
        "A random id is another one when the run is replayed.",
        "perdure.uuid4()",
        _workflow("uuid", "return str(uuid.uuid4())"),
        _workflow("", "return str(perdure.uuid4())"),
    ),
    Rule(
        "PDR004",
        "i/o",
        "Files, sockets and requests give something else on replay, or do it again. The guard stops most of it.",
        "Move it into a @perdure.step function, whose result is recorded, and await that.",
        _workflow("", 'return open("notes.txt").read()'),
        _workflow(
            "",
            "return await notes()",
            before="@perdure.step\ndef notes() -> str:\n"
            '    with open("/dev/null") as file:\n        return file.read()\n',
        ),
        guarded=True,
    ),
    Rule(
        "PDR005",
        "process",
        "A program that is started by workflow code is started again by each replay.",
        "Start it in a @perdure.step function.",
        _workflow("subprocess", 'return subprocess.run(["ls"]).returncode'),
        _workflow(
            "subprocess sys",
            "return await listed()",
            before="@perdure.step\ndef listed() -> int:\n"
            '    return subprocess.run([sys.executable, "-c", ""]).returncode\n',
        ),
        guarded=True,
    ),
    Rule(
        "PDR006",
        "thread",
        "When a thread gets on isn't recorded, so what it does can't be replayed in the same order.",
        "Make the function a sync @perdure.step: it runs in a thread by itself.",
        _workflow("asyncio", "return await asyncio.to_thread(len, [1])"),
        _workflow(
            "", "return await size([1])", before="@perdure.step\ndef size(of: list[int]) -> int:\n    return len(of)\n"
        ),
        guarded=True,
    ),
    Rule(
        "PDR007",
        "blocking sleep",
        "time.sleep stops every run of the worker, and after turn_limit the run is interrupted and blocked.",
        "await asyncio.sleep(seconds): in a workflow that is a durable timer.",
        _workflow("time", "time.sleep(60)", "return None"),
        _workflow("asyncio", "await asyncio.sleep(0.01)", "return None"),
        guarded=True,
    ),
    Rule(
        "PDR008",
        "environment",
        "The environment is another one after a deploy or on another worker, and live runs are replayed there.",
        "Read it in a step, or give it to the workflow as an argument.",
        _workflow("os", 'return os.environ["HOME"]'),
        _workflow(
            "os",
            "return await home()",
            before='@perdure.step\ndef home() -> str:\n    return os.environ.get("HOME", "")\n',
        ),
    ),
    Rule(
        "PDR009",
        "order of a set",
        "The order of a set of texts or objects differs between processes (PYTHONHASHSEED, addresses), so what is "
        "asked for in that order diverges.",
        "sorted(...), or a dict or list instead of the set. (Sets of asyncio tasks and of ints keep their order.)",
        _workflow(
            "", 'names = {"a", "b"}', "return [await fetch(name) for name in names]", before=_STEP, result="list[str]"
        ),
        _workflow(
            "",
            'names = {"a", "b"}',
            "return [await fetch(name) for name in sorted(names)]",
            before=_STEP,
            result="list[str]",
        ),
    ),
    Rule(
        "PDR010",
        "shared state",
        "What a module holds is shared by all runs of a process and lost with it. A replay changes it once more.",
        "Keep state in local variables or in objects that the workflow makes; for state of its own use an entity.",
        _workflow("", "COUNTS.append(1)", "return len(COUNTS)", before="COUNTS: list[int] = []\n"),
        _workflow("", "counts: list[int] = []", "counts.append(1)", "return len(counts)"),
    ),
    Rule(
        "PDR011",
        "missing await",
        "Without await the step, workflow or coroutine is never begun.",
        "await it, or hand it to asyncio.gather, create_task or perdure.start.",
        _workflow("", 'fetch("a")', "return None", before=_STEP),
        _workflow("", 'await fetch("a")', "return None", before=_STEP),
    ),
    Rule(
        "PDR012",
        "missing annotation",
        "Values are recorded as JSON and read back by the annotation. Without one a dataclass comes back as a dict.",
        "Annotate all parameters and the result of steps and workflows.",
        _workflow("", 'return await size("a")', before="@perdure.step\ndef size(text):\n    return len(text)\n"),
        _workflow(
            "", 'return await size("a")', before="@perdure.step\ndef size(text: str) -> int:\n    return len(text)\n"
        ),
    ),
    Rule(
        "PDR013",
        "mutable default",
        "A mutable default is shared by all runs of a process, and isn't part of the recorded input.",
        "None as default, and make the value inside.",
        _module(
            "import perdure", "", "@perdure.workflow", "async def example(names: list[str] = []) -> int:",
            "    return len(names)",
        ),
        _module(
            "import perdure", "", "@perdure.workflow", "async def example(names: list[str] | None = None) -> int:",
            "    return len(names or [])",
        ),
    ),
    Rule(
        "PDR014",
        "swallowed signals",
        "`except BaseException` also takes the run's cancellation and the signals by which the engine unwinds code.",
        "except Exception, or raise it again; a cancellation is `except asyncio.CancelledError`.",
        _workflow(
            "", "try:", '    return await fetch("a")', "except BaseException:", "    return None", before=_STEP
        ),
        _workflow("", "try:", '    return await fetch("a")', "except Exception:", "    return None", before=_STEP),
    ),
    Rule(
        "PDR015",
        "identity",
        "id() is an address, and hash() of a text depends on PYTHONHASHSEED: both are others on replay.",
        "A name or number of your own, perdure.uuid4(), or hashlib.",
        _workflow("", 'return hash("a")'),
        _workflow("hashlib", 'return hashlib.blake2b(b"a", digest_size=8).hexdigest()'),
    ),
)  # fmt: skip

BY_CODE = {rule.code: rule for rule in RULES}
