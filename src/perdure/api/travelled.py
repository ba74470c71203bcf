"""Looking into a run's past: where its code stood after any of its events, and with which variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from perdure.api.connection import Connection
from perdure.errors import UsageError

if TYPE_CHECKING:
    from perdure.core.standing import Standing


class Travelled:
    """The part of a handle that shows the run's past."""

    id: str
    _connection: Connection

    async def at(self, seq: int | None = None, *, generation: int | None = None) -> Standing:
        """Where the run's code stood after one of its events: each live task, its lines and its local variables.

        That is rebuilt by feeding the history to the code, in a process of its own: no step runs, nothing is written,
        and values are texts. The code has to be importable here.

        Args:
            seq: the event's number, counted from 1; by default the newest one.
            generation: look at an earlier run of this id; by default at the newest.

        Returns:
            Where it stood. If the code isn't what it was, `stop` says where it differs, and the rest shows the last
            event before that.

        Raises:
            UnknownRunError: no run has this id, or this generation.
            UsageError: it has no event with this number.
            NoCodeError: the code of its workflow isn't here.
            TravelError: the code takes too long.

        Example:
            >>> standing = await engine.get("r-1").at(12)  # doctest: +SKIP
            >>> [(task.name, task.awaits) for task in standing.tasks]  # doctest: +SKIP
        """
        connection = self._connection
        row = await connection.generation(self.id, generation)
        if seq is not None and not 1 <= seq <= row.seq:
            msg = f"run {self.id!r} has no event {seq}: its events are numbered from 1 to {row.seq}"
            raise UsageError(msg)
        return await connection.travelling.standing(row, row.seq if seq is None else seq)

    async def change_of(
        self,
        name: str,
        seq: int,
        *,
        task: int = 1,
        frame: int = 0,
        direction: Literal["next", "previous"] = "next",
        generation: int | None = None,
    ) -> int | None:
        """The nearest event by which a local variable became another one.

        Args:
            name: the variable's.
            seq: from which event on.
            task: the id of the task whose variable it is, as `at` tells it; the workflow function's is 1.
            frame: which of the task's own functions, 0 is the outermost.
            direction: where to look, seen from `seq`.
            generation: of an earlier run of this id.

        Returns:
            The event's number; None if there is none in this direction.

        Raises:
            UnknownRunError, NoCodeError, TravelError: as `at` does.
        """
        connection = self._connection
        row = await connection.generation(self.id, generation)
        return await connection.travelling.change(row, seq, (task, frame, name), direction)
