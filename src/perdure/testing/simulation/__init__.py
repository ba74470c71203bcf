"""Deterministic simulation: the real engine in virtual time, among faults that a seed draws.

`python -m perdure.testing.simulation --seeds 1000`. `scenario` says what is simulated, `drawing` draws it; `world` has
the virtual time and the event loops of the simulated processes; `network` lies between them and the one database in
memory; `faults` and `clocks` say what goes wrong; `processes` are the workers and `client` is the client, with
`outsiders`, `callers` and `people` for what runs need from outside; `instructions`, `bounds`, `trouble` and `callees`
are the code of runs that `torture.workshop` lacks; `observer` looks whether anything is that must never be, by `rules`
of which each is about a part of the engine; `simulating` puts them together; `shrink` makes a scenario that failed
small.
"""
