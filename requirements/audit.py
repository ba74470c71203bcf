"""Looks for known vulnerabilities and unwelcome licences in what dev.lock names: `make audit`.

What is asked is a service on the network. Where that isn't reached, a notice says so and nothing fails: an audit is
about the world outside, not about this tree. The licences are read from what is installed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

LOCK = Path(__file__).resolve().parent / "dev.lock"
PATIENCE = 120.0  #: seconds for all of it

#: Known, and of no concern here: id -> why.
ACCEPTED: dict[str, str] = {}

#: Packages whose classifiers name an unwelcome licence beside others, and why they are welcome all the same.
PARTS = {
    "docutils": "in the public domain; the one file under the GPL is a mode for Emacs, which isn't installed"
}

#: What a licence mustn't be of what users install with the core and its extras; tools of development may be.
UNWELCOME = re.compile(r"(?<!L)(?<!Lesser )\b(A?GPL|GNU (Affero )?General Public)", re.IGNORECASE)


def vulnerabilities() -> tuple[str, int]:
    """What is to be said, and the exit code."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pins(LOCK.read_text(encoding="utf-8"))))
        file.flush()
        command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "-f", "json"]
        command += ["--progress-spinner", "off", "--timeout", "15", "-r", file.name]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return f"notice: the audit is skipped: no answer within {PATIENCE:g} s", 0
    return verdict(done.stdout, done.stderr)


def pins(lock: str) -> list[str]:
    """The pinned packages of a lock that are for this Python on this platform."""
    lines = re.findall(r"^([A-Za-z0-9._-]+==[^\\\n]+)", lock, re.MULTILINE)
    found = [Requirement(line.strip()) for line in lines]
    return sorted(
        f"{item.name}{item.specifier}" for item in found if item.marker is None or item.marker.evaluate()
    )


def verdict(output: str, trouble: str) -> tuple[str, int]:
    """What to say of pip-audit's answer, and the exit code."""
    try:
        report = json.loads(output)
    except ValueError:
        last = trouble.strip().splitlines()[-1:] or ["it said nothing"]
        return f"notice: the audit is skipped, as nobody could be asked: {last[0][:300]}", 0
    lines = []
    for package in report["dependencies"]:
        for found in package.get("vulns", ()):
            if not {found["id"], *found.get("aliases", ())} & ACCEPTED.keys():
                fixed = ", ".join(found.get("fix_versions", ())) or "nothing yet"
                lines.append(f"{package['name']} {package['version']}: {found['id']}, mended in {fixed}")
    if lines:
        return "\n".join(
            [*lines, "Update with `make lock`, or accept it here (ACCEPTED), with the reason."]
        ), 1
    return f"{len(report['dependencies'])} packages, no known vulnerability", 0


def licences() -> list[str]:
    """The packages that Perdure and its extras need, and whose licence isn't welcome."""
    return [
        f"{name}: {told}"
        for name in sorted(needed("perdure"))
        if name not in PARTS and UNWELCOME.search(told := licence(name))
    ]


def needed(package: str) -> set[str]:
    """What a package needs, its extras but `dev`, `docs` and `bench` included, as far as it is installed."""
    found: set[str] = set()
    todo = [(package, True)]
    while todo:
        name, extras = todo.pop()
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for line in requirements:
            other = re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0].lower()
            extra = re.search(r"extra == ['\"]([^'\"]+)['\"]", line)
            wanted = extra is None or (extras and extra.group(1) not in ("dev", "docs", "bench"))
            if wanted and other != package and other not in found:
                found.add(other)
                todo.append((other, False))
    return found


def licence(name: str) -> str:
    """What a package says of its licence, in a line."""
    try:
        told = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return ""
    classifiers = [item for item in told.get_all("Classifier") or () if item.startswith("License ::")]
    short = (told.get("License") or "").splitlines()[:1]
    return "; ".join([told.get("License-Expression") or "", *short, *classifiers])


def main() -> int:
    told, code = vulnerabilities()
    print(told, flush=True)
    if bad := licences():
        print("licences that users of an Apache-2.0 library don't expect:", *bad, sep="\n  ", flush=True)
        code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
