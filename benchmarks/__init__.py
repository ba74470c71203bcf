"""Perdure beside the machine's raw limits and beside its peers, measured in the same run: `make bench`.

    works.py     what is measured, how large, by whom: data
    engines/     the works themselves, one module for each engine; each measurement is a process
    peers.py     the environment that peers are installed into
    rounds.py    who is measured when, and where
    report.py    tables; plot.py: the picture

Absolute figures say little about another machine: the disk alone drifts by a factor of two within an hour. So everybody
takes turns, and ratios are taken within a round. README.md beside this file says how each engine is driven, and what
"durable" means in it. Two stand for themselves: `queues.py`, how long a claim takes behind very long lines, and
`layers.py`, in which layer the time goes.
"""
