"""The smallest whole program: run it, kill it anywhere, run it again, and it goes on where it stood.

python examples/hello.py [database]
"""

import asyncio
import sys
import tempfile

import perdure


@perdure.step
async def greet(name: str) -> str:
    print(f"  greeting {name}")
    return f"hello {name}"


@perdure.workflow
async def greet_all(names: list[str]) -> list[str]:
    greetings = await asyncio.gather(*(greet(name) for name in names))
    await asyncio.sleep(1)  # a durable timer: it survives a restart
    return [*greetings, await greet("everybody")]


if __name__ == "__main__":
    database = sys.argv[1] if len(sys.argv) > 1 else f"{tempfile.mkdtemp()}/hello.db"
    for _ in range(2):  # the second time the result comes from the record: nothing is greeted again
        print(perdure.run(greet_all(["ada", "grace"]), url=f"sqlite:///{database}", id="hello-1"))
