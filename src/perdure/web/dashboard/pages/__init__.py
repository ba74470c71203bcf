"""The pages, one file each; a module here that holds any is found by itself."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from perdure.web.dashboard.frame import register_pages


def load() -> None:
    """Make all pages known to NiceGUI; once per process."""
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        import_module(module.name)
    register_pages()
