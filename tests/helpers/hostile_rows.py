"""A worker that reads databases into which somebody has written what they like, with Python's audit hooks armed.

Run as a script, with a folder and how many databases to read. A sound database is made first and read once, so that
everything is loaded that reading takes. Then the hook is armed: whatever loads, compiles, executes or unpickles code,
starts a process, or opens a file or connection that it shouldn't, is noted with its stack, and told as JSON.

Annotations here aren't texts, since Python evaluates such when they are first needed, which is no fault of rows.
"""

import asyncio
import json
import logging
import random
import shutil
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import apsw
import msgspec

import perdure
from perdure.errors import PerdureError
from perdure.storage.chain import links, origin

PICKLE = b"cbuiltins\nexec\n(S'raise SystemExit(66)'\ntR."
TEXTS = [
    "os.system", "builtins.exec", "builtins.eval", "subprocess.Popen", "__main__.takes", "perdure.errors.StepFailed",
    "__import__('os').system('true')", "../../../etc/passwd", "antigravity", "a" * 5000, "", "\N{ESCAPE}[2J",
    "builtins.BaseException", "builtins.KeyboardInterrupt", "builtins.SystemExit", "pickle.loads", "{0.__class__}",
    "%(os)s", "'; DROP TABLE runs; --", "step/os.system", "{}", "[]", "null", '{"$type": "os.system"}', "NaN",
]  # fmt: skip
BYTES = [
    PICKLE, b"\x80\x04\x95", b"", b"[" * 5000, b"[" * 100 + b"]" * 100, b"\xff" * 50, b"\x01\x81", b"{}", b"null",
    b'"os.system"', b'{"type":"os.system"}', b"\xe3" + b"\0" * 30, b"\x01" + b"\x91" * 5000,
]  # fmt: skip
NUMBERS = [-1, 0, 1, 2**31, 2**62, -(2**62), 7]
REALS = [-1e300, 1e300, 0.0, float("inf"), 1.5]
WATCHED = (
    "exec", "compile", "import", "marshal.", "pickle.", "subprocess.", "os.", "ctypes.", "socket.", "open", "code.",
    "function.",
)  # fmt: skip
HARMLESS = (
    "os.listdir", "os.scandir", "os.stat", "os.walk", "os.putenv", "os.chmod", "os.truncate", "os.rename", "os.remove",
    "os.mkdir",
)  # fmt: skip


TROUBLES: list[str] = []

#: What is done whatever rows say: (event, where). The first two make a callable with a function's own signature.
OURS = (
    ("code.__new__", "perdure/codec/stub.py"),
    ("function.__new__", "perdure/codec/stub.py"),
    ("socket.gethostname", "perdure/runtime/liveness.py"),
    ("ctypes.addressof", "perdure/storage/sqlite/database.py"),
    ("ctypes.addressof", "perdure/storage/sqlite/sqlite_file.py"),
)


class Refused(Exception):
    """What the program's steps raise."""


@perdure.step
async def takes(value: Any) -> Any:
    return value


@perdure.step(retry=perdure.Retry(max_attempts=1))
async def breaks(text: str) -> None:
    raise Refused(text, 7)


@perdure.workflow
async def child(number: int) -> int:
    await perdure.receive("go")
    return number


@perdure.workflow
async def does_much(number: int) -> Any:
    perdure.set_attributes(number=number, name="n", tags=["a"])
    perdure.emit("stream", {"n": number})
    perdure.on_query(asks)
    perdure.on_update(asks)
    await takes({"n": number, "when": [1, 2]})
    try:
        await breaks("no")
    except Refused:
        pass
    await asyncio.sleep(0.001)
    if number % 3 == 0:
        return number
    if number % 3 == 1:
        await perdure.start(child(number))
        await perdure.callback(int)
    return await perdure.receive("never")


def asks(value: Any = None) -> Any:
    return value


@perdure.workflow
async def lives(number: int) -> int:
    return await takes(number)


async def make(path: Path) -> None:
    """A database with something in most tables."""
    async with perdure.Engine(f"sqlite:///{path}", budgets=[perdure.Budget(5)]) as engine:
        handles = [await engine.start(does_much(number), id=f"run-{number}") for number in range(45)]
        for number, handle in enumerate(handles):
            if number % 3 == 0:
                await handle.result()
            else:
                while await handle.status() != "waiting":
                    await asyncio.sleep(0.01)
        await handles[1].update("asks", 1)
        await handles[2].query("asks")
        await engine.publish("event", {"a": 1}, key="k")
        await engine.schedules.create("often", lives(1), every=3600)
        await engine.run(lives(1))
    async with perdure.Engine(f"sqlite:///{path}", worker=False) as client:
        for number in range(1, 40, 3):
            await client.get(f"run-{number}").send("hello", number, key="k")


def columns(db: apsw.Connection) -> list[tuple[str, str, str]]:
    """(table, column, type) of all of a database."""
    tables = [str(name) for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return [
        (table, str(row[1]), str(row[2]).upper())
        for table in tables
        if not table.startswith("sqlite_")
        for row in db.execute(f'SELECT * FROM pragma_table_info("{table}")')
    ]


def worsen(path: Path, rng: random.Random) -> None:
    """Write something else into one column of each row, and into events so that their checksums hold.

    As somebody does who can write rows: what the tables themselves refuse, they don't get in.
    """
    db = apsw.Connection(str(path))
    for table in sorted({table for table, _, _ in columns(db)} - {"meta"}):
        of_table = [(column, kind) for name, column, kind in columns(db) if name == table]
        for (rowid,) in list(db.execute(f'SELECT rowid FROM "{table}"')) if has_rowid(db, table) else []:
            column, kind = rng.choice(of_table)
            value = rng.choice({"TEXT": TEXTS, "BLOB": BYTES, "REAL": REALS}.get(kind, NUMBERS))  # type: ignore[call-overload]
            if value is not None:
                try_to(db, f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', (value, rowid))
        if not has_rowid(db, table) and table != "events":
            column, kind = rng.choice(of_table)
            value = rng.choice({"TEXT": TEXTS, "BLOB": BYTES, "REAL": REALS}.get(kind, NUMBERS))  # type: ignore[call-overload]
            try_to(db, f'UPDATE OR REPLACE "{table}" SET "{column}" = ?', (value,))
    forge(db, rng)
    for (run,) in list(db.execute("SELECT run FROM runs WHERE ended_at IS NULL")):
        try_to(db, "UPDATE runs SET owner = NULL, wake_at = 1.0, status = 'waiting' WHERE run = ?", (run,))
    db.close()


def forge(db: apsw.Connection, rng: random.Random) -> None:
    """Change a field of an event of each run, with links and chain as somebody computes them who means it."""
    for run, id, generation in list(db.execute("SELECT run, id, generation FROM runs")):
        rows = list(db.execute("SELECT seq, data FROM events WHERE run = ? ORDER BY seq", (run,)))
        data = [bytes(item) for _, item in rows]  # type: ignore[arg-type]
        if not data:
            continue
        place = rng.randrange(len(data))
        try:
            event = msgspec.msgpack.decode(data[place][1:])
        except (msgspec.DecodeError, ValueError):
            continue
        if isinstance(event, dict) and event:
            twist(event, rng)
            data[place] = data[place][:1] + msgspec.msgpack.encode(event)
        chain = links(origin(str(id), int(generation)), data)  # type: ignore[arg-type]
        for (seq, _), item, link in zip(rows, data, chain, strict=True):
            db.execute(
                "UPDATE events SET data = ?, link = ? WHERE run = ? AND seq = ?", (item, link, run, seq)
            )
        try_to(db, "UPDATE runs SET chain = ?, seq = ? WHERE run = ?", (chain[-1], len(data), run))


def twist(event: dict[str, Any], rng: random.Random) -> None:
    """Something else in one field of an event, or of what is in it."""
    name = rng.choice(sorted(event))
    value = event[name]
    if isinstance(value, dict) and value and rng.random() < 0.8:
        twist(value, rng)
    else:
        event[name] = rng.choice(
            [*TEXTS, *BYTES, *NUMBERS, None, [PICKLE], {"type": "os.system", "args": PICKLE}]
        )
        if rng.random() < 0.2:
            event["kind"] = rng.choice(["run_failed", "step_failed", "os.system", "child_started"])


def has_rowid(db: apsw.Connection, table: str) -> bool:
    ((sql,),) = db.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,))
    return "WITHOUT ROWID" not in str(sql)


def try_to(db: apsw.Connection, sql: str, values: tuple[Any, ...]) -> None:
    try:
        db.execute(sql, values)
    except apsw.Error:  # it isn't of the column's type, or there already: SQLite itself refuses
        pass


async def read(path: Path) -> str:
    """Let a worker have it: what became of it, in a word."""
    try:
        async with perdure.Engine(f"sqlite:///{path}", evict_after=0.05, grace=0.2) as engine:
            for number in range(3):  # meanwhile it goes through what is due
                assert await asyncio.wait_for(engine.run(lives(number)), 30) == number
                await asyncio.sleep(0.05)
            for look in (
                _lists,
                _histories,
                _why,
            ):  # what can't be shown is an error to who asks, and no more
                try:
                    await look(engine)
                except Exception as error:
                    TROUBLES.append(f"{look.__name__}: {type(error).__name__}: {error}")
            return "lives"
    except PerdureError as error:
        return f"refused: {type(error).__name__}: {error}"


async def _lists(engine: perdure.Engine) -> None:
    async for info in engine.runs(limit=None):
        _ = info.status


async def _histories(engine: perdure.Engine) -> None:
    for number in range(0, 45, 5):
        try:
            async for event in engine.get(f"run-{number}").history():
                repr(event)
            await engine.get(f"run-{number}").result(timeout=0.01)
        except (PerdureError, TimeoutError):
            pass
        except Exception as error:
            if type(error).__module__ not in ("__main__", "perdure.errors"):
                raise


async def _why(engine: perdure.Engine) -> None:
    for number in range(0, 45, 7):
        try:
            await engine.get(f"run-{number}").why()
        except PerdureError:
            pass


def main(folder: Path, many: int) -> None:
    logging.disable(logging.CRITICAL)
    sound = folder / "sound.db"
    asyncio.run(make(sound))
    outcomes: list[str] = []
    fired: list[dict[str, Any]] = []
    armed = False

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if not armed or not event.startswith(WATCHED) or event in HARMLESS:
            return
        stack: list[str] = []
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:  # the innermost first
            stack.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}")
            frame = frame.f_back
        files = [place.partition(":")[0] for place in stack]
        if event == "open" and (
            args[0] is None or isinstance(args[0], int) or expected(str(args[0]), folder)
        ):
            return
        # A failure's text shows the lines of code it went through: the interpreter parses them to mark a part.
        if event in ("compile", "open") and any(
            name.endswith(("traceback.py", "linecache.py")) for name in files
        ):
            return
        caller = stack[0].partition(":")[0]
        if any(event == known and caller.endswith(place) for known, place in OURS):
            return
        if event == "socket.__new__" and any("asyncio" in name for name in files[:6]):
            return  # the event loop's own pair of sockets
        fired.append({"event": event, "args": repr(args)[:200], "stack": stack[:12]})

    sys.addaudithook(hook)
    for number in range(many + 2):
        path = folder / f"{number}.db"
        shutil.copy(sound, path)
        armed = number >= 2  # twice unarmed, once of them sound: everything is loaded then
        if number:
            worsen(path, random.Random(number))
        outcomes.append(asyncio.run(read(path)))
    armed = False
    print(json.dumps({"outcomes": outcomes, "fired": fired, "troubles": TROUBLES}))


def expected(name: str, folder: Path) -> bool:
    return name.startswith((str(folder), "/proc/")) or name in ("/dev/null", "/dev/urandom")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
