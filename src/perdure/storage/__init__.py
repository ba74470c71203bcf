"""The append-only log on disk.

`protocol.py` states what a store promises, `records.py` what crosses the seam, and
`perdure.testing.conformance` proves both for every implementation. The implementations (memory,
sqlite/) are strangers to each other.
"""
