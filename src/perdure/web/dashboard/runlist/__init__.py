"""The page of all runs.

    listing.py    the table, page by page, kept up to date without moving what somebody reads
    filters.py    what is listed: statuses, text, workflow, time, attributes; always what the address says
    bulk.py       doing something with many runs: asked for once, done one by one through the API
    starting.py   starting a run

What is decided without a page is in `views/runlist.py` and `views/starting.py`.
"""
