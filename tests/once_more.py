"""Tries the few tests that have just failed once more, one at a time, and tells of those that pass now.

On two busy cores real servers and processes are late now and then, in ways that no test expects yet. A test that passes
only alone is a defect all the same, of the test or of what it tests; what it printed when it failed is to be read.
So `make test` tells of it and goes on, and `make soak` doesn't try again.

python tests/once_more.py [arguments of pytest, as in the run that failed]
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

#: More than so many are no chance.
AT_MOST = 3
_FAILED = Path(".pytest_cache/v/cache/lastfailed")


def main(arguments: list[str]) -> int:
    failed = sorted(json.loads(_FAILED.read_text())) if _FAILED.exists() else []
    if not 1 <= len(failed) <= AT_MOST:
        print(f"{len(failed)} tests have failed: too many to try once more")
        return 1
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "--last-failed", *arguments], check=False)
    if done.returncode == 0:
        print(
            "These failed once, and passed alone. Look at what they said above, and mend them or what they test:"
        )
        print("\n".join(f"  {name}" for name in failed))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
