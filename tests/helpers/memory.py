"""Where tests put their files: in memory, where the machine has room. They kill processes, never the machine."""

from __future__ import annotations

import shutil
from pathlib import Path


def folder_in_memory(room: int = 2 << 30) -> str | None:
    """A folder for temporary files that no disk is asked for, with so many bytes left, if there is one."""
    folder = Path("/dev/shm")
    return str(folder) if folder.is_dir() and shutil.disk_usage(folder).free > room else None
