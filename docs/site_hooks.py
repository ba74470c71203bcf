"""What the site needs beyond its pages: the examples as pages, links to files of the repository, llms.txt.

On the repository's own pages, links lead to files such as `../examples/order.py`; they do so wherever the repository is
looked at. On the site examples are pages, and what else isn't part of it is named without a link.
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]

_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```(python|text) (?:run|output)$", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Make a page of each example, and the decisions' pages findable without filling the navigation."""
    for example in sorted((ROOT / "examples").glob("*.py")):
        text = example.read_text(encoding="utf-8")
        title = example.stem.replace("_", " ")
        page = f"# {title}\n\n`python examples/{example.name}`\n\n```python\n{text}```\n"
        files.append(
            File.generated(
                config, f"examples/{example.stem}.md", content=page, inclusion=InclusionLevel.NOT_IN_NAV
            )
        )
    for file in files.documentation_pages():
        if file.src_uri.startswith("adr/"):
            file.inclusion = InclusionLevel.NOT_IN_NAV
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to examples to their pages, and take away those to files that the site doesn't have."""
    here = dirname(page.file.src_uri)

    def led(match: re.Match[str]) -> str:
        text, target = match.groups()
        path, hash_, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return match[0]
        wanted = normpath(join("docs", here, path))
        if wanted.startswith("examples/") and wanted.endswith(".py"):
            return f"[{text}]({relpath(f'examples/{Path(wanted).stem}.md', here or '.')})"
        if not wanted.startswith("docs/"):
            return text if (ROOT / wanted).exists() else match[0]
        return f"[{text}]({path}{hash_}{anchor})"

    markdown = _FENCE.sub(r"```\1", markdown)  # "python run" and "text output" are for the tests
    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else _LINK.sub(led, part) for part in parts)


def on_post_build(config: MkDocsConfig) -> None:
    """llms.txt: what there is to read, for models; llms-full.txt: all of the guide in one file."""
    docs = Path(config.docs_dir)
    lines = ["# Perdure", "", f"> {config.site_description}", ""]
    whole: list[str] = []
    for section, path in _pages(config.nav or []):
        text = (docs / path).read_text(encoding="utf-8")
        title = text.partition("\n")[0].lstrip("# ").strip()
        if section and f"## {section}" not in lines:
            lines += ["", f"## {section}", ""]
        place = path.removesuffix(".md").removesuffix("index")
        lines.append(f"- [{title}]({place.rstrip('/') or '.'}/): {_first_sentence(text)}")
        whole.append(text)
    site = Path(config.site_dir)
    (site / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (site / "llms-full.txt").write_text("\n\n".join(whole), encoding="utf-8")


def _pages(nav: list[Any], section: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for item in nav:
        if isinstance(item, str):
            found.append((section, item))
            continue
        for title, inner in item.items():
            found += [(section, inner)] if isinstance(inner, str) else _pages(inner, title)
    return found


def _first_sentence(text: str) -> str:
    for block in text.split("\n\n")[1:]:
        if block and block[0] not in "#|`:![-":
            return re.split(r"(?<=[.:])\s", " ".join(block.split()))[0]
    return ""
