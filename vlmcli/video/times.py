"""Which moments of a clip are looked at: pure functions, all times in seconds."""

import itertools
import math
from collections.abc import Sequence


def count_frames(length_s: float, fps: float, least: int, most: int) -> int:
    """How many frames show a stretch of a clip: `fps` a second, within bounds; `fps` may be inf."""
    wanted = length_s * fps
    return most if wanted >= most else max(1, min(most, max(least, round(wanted))))


def spread(start_s: float, end_s: float, count: int) -> tuple[float, ...]:
    """The times of `count` frames, evenly over the stretch.

    Each is the middle of its slice, so the first and last frames (often black) are never taken.
    """
    slice_s = (end_s - start_s) / count
    return tuple(start_s + slice_s * (i + 0.5) for i in range(count))


def windows(start_s: float, end_s: float, every_s: float) -> tuple[tuple[float, float], ...]:
    """The stretch cut into windows of `every_s`; what is left over makes a last, shorter one."""
    count = max(1, math.ceil((end_s - start_s) / every_s - 1e-6))
    cuts = [start_s + every_s * i for i in range(count)] + [end_s]
    return tuple(itertools.pairwise(cuts))


def at_changes(times_s: Sequence[float], changes: Sequence[float], count: int) -> tuple[float, ...]:
    """The `count` times at which the picture has changed most, in order.

    `changes[i]` is how much the picture at `times_s[i]` differs from the one before it; that of the
    first counts as the most. Times less than half an even share apart are one change.
    """
    if not times_s:
        return ()
    apart_s = (times_s[-1] - times_s[0]) / count / 2
    ranked = sorted(range(1, len(times_s)), key=lambda i: (-changes[i], i))
    taken = [times_s[0]]
    for i in ranked:
        if len(taken) == count:
            break
        if changes[i] > 0 and all(abs(times_s[i] - other) > apart_s for other in taken):
            taken.append(times_s[i])
    return tuple(sorted(taken))
