"""How values, moments and lengths of time read, wherever they are shown to people."""

from __future__ import annotations

from datetime import UTC, datetime

from perdure.codec.redaction import mask


def printable(text: str) -> str:
    """The text without secrets, and without anything that a terminal would obey. Line breaks stay."""
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in mask(text))


def one_line(text: str, length: int | None = 60) -> str:
    """The text on one line, its end cut off where it is too long. None: nothing is cut."""
    flat = printable(" ".join(mask(text).split()))
    return flat if length is None or len(flat) <= length else flat[: length - 1] + "…"


def duration(seconds: float) -> str:
    """A length of time as people say it.

    Example:
        >>> duration(0.0123), duration(4.21), duration(95), duration(90061)
        ('12 ms', '4.2 s', '1 min 35 s', '1 d 1 h')
    """
    if seconds < 0.9995:
        return f"{max(0.0, seconds) * 1000:.{1 if seconds < 0.00995 else 0}f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, smaller, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def ago(moment: datetime, now: datetime) -> str:
    """How long ago, or how far ahead, a moment is."""
    distance = (now - moment).total_seconds()
    return f"{duration(distance)} ago" if distance >= 0 else f"in {duration(-distance)}"


def clock_time(moment: datetime) -> str:
    """A moment in the local time zone."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def moment(at: float) -> datetime:
    """From the seconds of an event."""
    return datetime.fromtimestamp(at, UTC)


def size(count: int) -> str:
    """A number of bytes, for people.

    >>> size(999), size(1500), size(12_345_678)
    ('999 B', '1.5 kB', '12.3 MB')
    """
    figure, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if figure < 1000:
            break
        figure, unit = figure / 1000, larger
    return f"{figure:.0f} {unit}" if unit == "B" else f"{figure:.1f} {unit}"
