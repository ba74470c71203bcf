"""The frame of all pages in a real browser: getting in, getting around, and what can't get in with a run's text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

import perdure
from perdure.web import Role, Tokens
from tests.helpers.browser import Site, browser, ready, server

pytestmark = pytest.mark.acceptance

MODULE = '''
import perdure

@perdure.workflow(name="<img src=x onerror=alert(1)>")
async def hostile(text: str) -> str:
    return text

@perdure.workflow(name="waits")
async def waits() -> str:
    return await perdure.receive("go", str)
'''
EVIL = "<script>window.hurt = true</script><img src=x onerror='window.hurt = true'>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "framed.py").write_text(MODULE)
    return tmp_path


@pytest.fixture
def site(folder: Path) -> Iterator[Site]:
    with server(folder, "dev", "framed") as found:
        yield found


async def start(site: Site, workflow: str, *args: str, id: str) -> None:
    async with perdure.HttpClient(site.url) as client:
        await client.start(workflow, *args, id=id)


async def test_texts_of_runs_stay_texts(site: Site) -> None: ...
