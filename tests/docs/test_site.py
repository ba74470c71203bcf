"""The documentation as a site: it builds strictly, has every public name, and models find their file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import perdure
import perdure.ai
import perdure.errors
import perdure.testing
import perdure.web

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("module", [perdure, perdure.ai, perdure.errors, perdure.testing, perdure.web])
def test_every_public_name_is_in_the_reference(module: object) -> None:
    name = module.__name__  # type: ignore[attr-defined]
    pages = "".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    told = set(re.findall(r"^::: (\S+)$", pages, re.MULTILINE))
    public = set(module.__all__) - {"errors"}  # type: ignore[attr-defined]
    missing = {each for each in public if f"{name}.{each}" not in told}
    missing -= {each for each in missing if f"perdure.errors.{each}" in told}
    assert not missing, f"docs/reference has no place for {sorted(missing)}"


def test_the_site_builds_and_every_link_leads_somewhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    for page in ("tutorial", "guarantees", "reference/errors", "examples/order", "guide/queues"):
        assert (tmp_path / page / "index.html").exists(), page
    assert "RunConflictError" in (tmp_path / "reference" / "errors" / "index.html").read_text()
    found = (tmp_path / "llms.txt").read_text()
    assert found.startswith("# Perdure\n")
    assert "(guide/queues/): A run waits in a" in found
    for link in re.findall(r"\]\(([^)]+)/\)", found):
        assert (tmp_path / link / "index.html").exists(), link
    whole = "".join(page.read_text(errors="replace") for page in tmp_path.rglob("*.html"))
    outside = set(re.findall(r'(?:src|href)="(https?://[^"/]+)[^"]*\.(?:js|css|woff2?)"', whole))
    assert not outside, f"pages load from elsewhere: {outside}"
