"""The page of one run, in parts: what is followed (watch.py), and what is drawn of it."""
