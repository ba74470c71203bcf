"""Tells whether another worker's process still lives, where the system can know that.

A process id means something only on one machine, since one boot, in one process-id space, and only together
with the process's start time, since ids are used again. Where any of that is unknown, or the worker is on
another host, only its lease counts.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from perdure.storage.workers import WorkerRow


def worker_name(name: str | None) -> str:
    """What a worker is called in listings: as it was named, or by its host and process id."""
    return name or f"{os.uname().nodename}-{os.getpid()}"


def host_identity() -> str:
    """Names the machine, its boot and this process's id space.

    PERDURE_HOST takes the place of the machine's name, for machines that are called the same and where the system tells
    nothing of boots and id spaces.
    """
    name = os.environ.get("PERDURE_HOST") or socket.gethostname()
    return f"{name}|{_read('/proc/sys/kernel/random/boot_id')}|{_pid_space()}"


def born(pid: int) -> int:
    """A process's start time in the system's own units; 0 if it doesn't run or the system doesn't say.

    A zombie (killed, not yet waited for) counts as not running.
    """
    stat = _read(f"/proc/{pid}/stat")
    fields = stat.rpartition(")")[2].split()  # the command's name, in brackets, may hold anything
    if len(fields) < 20 or fields[0] in "ZX":
        return 0
    return int(fields[19])


def process_gone(worker: WorkerRow, here: str) -> bool:
    """Whether the worker's process has certainly ended.

    Args:
        here: this process's host_identity().
    """
    if worker.host != here:
        return False
    if worker.born:
        return born(worker.pid) != worker.born
    try:
        os.kill(worker.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


class Whereabouts:
    """Which process this is, and whether others of its machine still live. A seam for simulations."""

    def host(self) -> str:
        """The machine, see host_identity."""
        return host_identity()

    def process(self) -> tuple[int, int]:
        """This process's id and start time."""
        pid = os.getpid()
        return pid, born(pid)

    def gone(self, worker: WorkerRow, here: str) -> bool:
        """Whether the process of another worker has certainly ended, see process_gone."""
        return process_gone(worker, here)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _pid_space() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
