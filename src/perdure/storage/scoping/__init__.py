"""A store around a store, which shows one namespace of it: see store.py."""

from __future__ import annotations

from perdure.storage.scoping.admission import Admission
from perdure.storage.scoping.store import ScopedStore

__all__ = ["Admission", "ScopedStore"]
