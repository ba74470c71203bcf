"""SQLite's own open files, as its C interface knows them (sqlite.org/c3ref/io_methods.html).

Two rare jobs need what no statement does: taking back a note in the log's index (`log_index.py`), and making room in
the log (`log_room.py`). Both go by the file that the connection has open, so whatever file system layer (VFS) is used
sees them, and a call lets Python's other threads go on.
"""

from __future__ import annotations

import ctypes
from typing import Final, TypeAlias

import apsw

Pointer: TypeAlias = ctypes.c_void_p

_INT: Final = ctypes.c_int
_INT64: Final = ctypes.c_int64


class _Methods(ctypes.Structure):
    """sqlite3_io_methods, as far as it is needed. Each function gives one of SQLite's codes."""

    _fields_ = (
        ("iVersion", _INT),
        ("xClose_and_xRead", Pointer * 2),
        ("xWrite", ctypes.CFUNCTYPE(_INT, Pointer, Pointer, _INT, _INT64)),
        ("xTruncate", ctypes.CFUNCTYPE(_INT, Pointer, _INT64)),
        ("xSync", ctypes.CFUNCTYPE(_INT, Pointer, _INT)),
        ("xFileSize", ctypes.CFUNCTYPE(_INT, Pointer, ctypes.POINTER(_INT64))),
        ("xLock_to_xDeviceCharacteristics", Pointer * 6),
        ("xShmMap", ctypes.CFUNCTYPE(_INT, Pointer, _INT, _INT, _INT, ctypes.POINTER(Pointer))),
        ("xShmLock", ctypes.CFUNCTYPE(_INT, Pointer, _INT, _INT, _INT)),
    )


class _File(ctypes.Structure):
    """sqlite3_file. Without methods it isn't open."""

    _fields_ = (("methods", ctypes.POINTER(_Methods)),)


class SqliteFile:
    """One file of a connection; valid as long as the connection has it open."""

    def __init__(self, pointer: Pointer, methods: _Methods) -> None:
        self._pointer = pointer
        self._methods = methods

    @classmethod
    def of(cls, connection: apsw.Connection, which: int) -> SqliteFile:
        """The database file (SQLITE_FCNTL_FILE_POINTER) or its log (SQLITE_FCNTL_JOURNAL_POINTER).

        Raises:
            apsw.CantOpenError: it isn't open.
        """
        pointer = Pointer()
        connection.file_control("main", which, ctypes.addressof(pointer))
        methods = ctypes.cast(pointer, ctypes.POINTER(_File)).contents.methods if pointer else None
        if not methods:
            raise apsw.CantOpenError("SQLite doesn't have this file open.")
        return cls(pointer, methods.contents)

    @property
    def shares_memory(self) -> bool:
        """Whether it has the methods xShmMap and xShmLock."""
        return bool(self._methods.iVersion >= 2)

    @property
    def size(self) -> int:
        """In bytes."""
        size = _INT64(0)
        self.do("xFileSize", ctypes.byref(size))
        return size.value

    def do(self, method: str, *arguments: object) -> None:
        """Call one of its methods.

        Raises:
            apsw.Error: of the code that it gave.
        """
        try:
            code = getattr(self._methods, method)(self._pointer, *arguments)
        except SystemError as error:
            # A layer that is written in Python, as the disks of tests are, leaves its exception standing.
            if isinstance(error.__cause__, apsw.Error):
                raise error.__cause__ from None
            raise
        if code != apsw.SQLITE_OK:
            raise apsw.exception_for(code)
