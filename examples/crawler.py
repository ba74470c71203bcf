"""A crawler that is polite: so many requests a second to each site, whatever number of runs and workers there is.

    python examples/crawler.py

It crawls a site of its own that counts what reaches it. Every page is fetched once, pages link in circles, one page is
refused at first, and no second sees more requests than the limit says.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import perdure
from perdure import Engine, Rate, RateLimit, step, workflow

PAGES = 30
SITE = RateLimit("site:example", requests=Rate(20, per=1.0))


class Site(BaseHTTPRequestHandler):
    """Pages that link to each other."""

    visits: ClassVar[list[tuple[float, str]]] = []
    refused = False

    def do_GET(self) -> None:
        Site.visits.append((time.monotonic(), self.path))
        number = int(self.path.strip("/") or 0)
        if number == 7 and not Site.refused:
            Site.refused = True
            self.send_response(429)
            self.send_header("Retry-After", "1")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        for link in (2 * number + 1, 2 * number + 2, 0):
            if link < PAGES:
                self.wfile.write(f'<a href="/{link}">page {link}</a>'.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@step(limit=SITE)
def links_of(url: str) -> list[str]:
    """Fetch a page. A refusal (429) isn't an attempt: all steps with this limit wait as long as the site says."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        found = re.findall(r'href="([^"]+)"', answer.read().decode())
    root = "/".join(url.split("/")[:3])
    return [root + link for link in found]


@workflow
async def crawl(start: str) -> int:
    seen = {start}
    edge = [start]
    while edge:
        found = await perdure.map(links_of, edge, concurrency=10)
        edge = [link for links in found.results if links for link in dict.fromkeys(links) if link not in seen]
        edge = list(dict.fromkeys(edge))  # in order: a set's differs from process to process
        seen.update(edge)
    return len(seen)


async def main(folder: str) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    async with Engine(f"sqlite:///{folder}/crawl.db") as engine:
        pages = await engine.run(crawl(f"http://127.0.0.1:{server.server_port}/0"), id="crawl-1")
    server.shutdown()
    server.server_close()
    times = [at for at, _ in Site.visits]
    most = max(sum(1 for other in times if at <= other < at + 1.0) for at in times)
    print(f"{pages} pages, {len(Site.visits)} requests (one was refused and came again)")
    print(f"at most {most} requests within a second; the limit is 20")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        asyncio.run(main(place))
