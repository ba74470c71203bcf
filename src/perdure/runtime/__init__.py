"""Drives runs: the only rooms with tasks, threads, clocks and sleeping.

`worker.py` supervises, `driver.py` is the life of one run on this worker, `journal.py` makes it durable,
`steps.py` executes, `timers.py` waits. None of them decides what a run does next: that is core's.
"""
