"""The proof that users run on their own machine: random programs, real kills, and what the outcome was.

`python -m perdure.testing.torture --url sqlite:///torture.db --seconds 60`, or `perdure torture`. `programs` draws
programs and knows their results without the engine; `workshop` is the code that workers execute, with books that the
engine knows nothing of; `fleet` keeps workers going and kills them; `load` is the client that starts runs; `power` cuts
the power; `audit` compares what is recorded with the books; `report` says what came of it all.
"""
