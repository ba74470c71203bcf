"""The runs, newest first, page by page."""

from __future__ import annotations

from nicegui import context

from perdure.web.dashboard.desk import Desk
from perdure.web.dashboard.frame import page
from perdure.web.dashboard.runlist.listing import RunList
from perdure.web.views.runlist import Wanted


@page("/runs", "Runs")
async def runs(desk: Desk) -> None:
    await RunList(desk, Wanted.read(context.client.request.url.query)).draw()
