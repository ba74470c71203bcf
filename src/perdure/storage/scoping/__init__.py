"""A store around a store, which shows one namespace of it: see store.py."""
