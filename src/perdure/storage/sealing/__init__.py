"""A store around a store: what goes into it is sealed, what comes out of it opened.

The store below keeps sealed bytes, and its checksum chains go over them. vault.py seals and opens single payloads;
store.py and its neighbours do so for each verb.
"""

from perdure.storage.sealing.store import SealedStore

__all__ = ["SealedStore"]
