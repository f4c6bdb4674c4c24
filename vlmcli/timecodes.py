"""Times of a clip: as people write and read them, and as subtitle files do.

Standard library only.
"""

import re
from fractions import Fraction

_LONGEST = 40  # characters; a float of Python's has 24 at most
_DECIMAL = r"([0-9]+(?:\.[0-9]+)?)"
_CLOCK = re.compile(rf"(?:(?:([0-9]+):)?([0-9]+):)?{_DECIMAL}")
_UNITS = re.compile(rf"(?:{_DECIMAL}h)?(?:{_DECIMAL}m)?(?:{_DECIMAL}s)?(?:{_DECIMAL}ms)?")
_PARTS = ((Fraction(3600), 0), (Fraction(60), 60), (Fraction(1), 60), (Fraction(1, 1000), 1000))
"""What one of each part is in seconds, and how many of it make one of the part before."""


def parse(text: str) -> float:
    """The seconds that "90", "1.5s", "500ms", "1m30s", "1h2m3s", "1:30" or "01:02:03.25" say.

    Raises ValueError, with a reason for the user, for all else.
    """
    text = text.strip()
    if not text:
        raise ValueError("it is empty")
    if text.startswith("-"):
        raise ValueError("a time cannot be negative")
    found = _CLOCK.fullmatch(text) or _UNITS.fullmatch(text)
    if not found or len(text) > _LONGEST:
        raise ValueError("not a time such as 90, 1.5s, 1m30s or 1:30")
    parts = [
        (number, unit_s, most)
        for number, (unit_s, most) in zip(found.groups(), _PARTS, strict=False)
        if number
    ]
    for number, _, most in parts[1:]:
        if Fraction(number) >= most:
            raise ValueError(f"{number} is not below {most}")
    if any("." in number for number, _, _ in parts[:-1]):
        raise ValueError("only the last part of a time can have a fraction")
    return float(sum(Fraction(number) * unit_s for number, unit_s, _ in parts))


def clock(seconds: float) -> str:
    """A time for people: "0:10", "0:01.5", "1:02:03"; tenths only where there are any.

    A time before the start is shown as the start, here and below.
    """
    whole, _, tenths = f"{max(0.0, seconds):.1f}".partition(".")
    hours, minutes, rest = _split(whole)
    start = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{start}:{rest:02}" + (f".{tenths}" if tenths != "0" else "")


def srt(seconds: float) -> str:
    """A time as SubRip files have it: "00:00:01,500"."""
    return _stamp(seconds, ",")


def vtt(seconds: float) -> str:
    """A time as WebVTT files have it: "00:00:01.500"."""
    return _stamp(seconds, ".")


def _stamp(seconds: float, mark: str) -> str:
    # Formatted, not multiplied by 1000: rounds what the float is, so as round(seconds, 3) does.
    whole, _, thousandths = f"{max(0.0, seconds):.3f}".partition(".")
    hours, minutes, rest = _split(whole)
    return f"{hours:02}:{minutes:02}:{rest:02}{mark}{thousandths}"


def _split(seconds: str) -> tuple[int, int, int]:
    minutes, rest = divmod(int(seconds), 60)
    return (*divmod(minutes, 60), rest)
