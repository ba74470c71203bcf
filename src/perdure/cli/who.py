"""Who is at the command line: histories keep who decided and who answered."""

from __future__ import annotations

import getpass


def login() -> str | None:
    """The login name, as far as there is one."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such name in this container
        return None
