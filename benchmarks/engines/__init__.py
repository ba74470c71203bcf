"""What the engines do: one module each, started as a process of its own for every single measurement.

`python -m benchmarks.engines.NAME WORK PLACE SIZES` prints one JSON object of figures. PLACE is a folder, or the URL of
an empty database; SIZES is a JSON object, the numbers that the work is measured with (see `works.py`). Peers' modules
run in an environment of their own, so they import nothing but the standard library and that one engine.
"""
