"""Rules: what must hold of queues, published events, callbacks, schedules, ..., said in words by their classes.

The observer (simulation/observer.py) tells them of each commit; what a rule knows it has seen there, or has heard from
the client, never from the engine that it watches.
"""
