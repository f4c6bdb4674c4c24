"""Which moments of a clip are looked at: pure functions."""

import itertools
import math
from random import Random

import pytest

from vlmcli.video import times


def test_frames_are_spread_each_in_the_middle_of_its_slice() -> None:
    assert times.spread(0, 8, 4) == (1, 3, 5, 7)
    assert times.spread(10, 11, 1) == (10.5,)


def test_the_spread_is_even_and_inside_whatever_the_stretch() -> None:
    rng = Random(1)
    for _ in range(200):
        start = rng.uniform(0, 1000)
        end, count = start + rng.uniform(0.01, 5000), rng.randrange(1, 200)
        found = times.spread(start, end, count)
        assert len(found) == count and start < found[0] and found[-1] < end
        steps = [b - a for a, b in itertools.pairwise(found)]
        assert all(step == pytest.approx((end - start) / count) for step in steps)


@pytest.mark.parametrize(
    ("length_s", "fps", "least", "most", "count"),
    [
        (10, 2, 4, 16, 16),  # 20 would be too many
        (4, 2, 4, 16, 8),
        (0.5, 2, 4, 16, 4),  # a short clip is still a sequence
        (0.5, 2, 4, 3, 3),
        (0.1, 1, 1, 16, 1),
        (10, math.inf, 1, 7, 7),  # only the number was asked for
        (7200, 1, 1, 64, 64),
    ],
)
def test_the_number_of_frames(
    length_s: float, fps: float, least: int, most: int, count: int
) -> None:
    assert times.count_frames(length_s, fps, least, most) == count


def test_windows_cover_the_stretch_and_the_last_is_what_is_left() -> None:
    assert times.windows(5, 30, 10) == ((5, 15), (15, 25), (25, 30))
    assert times.windows(0, 20, 10) == ((0, 10), (10, 20))
    assert times.windows(0, 3, 10) == ((0, 3),)
    assert times.windows(0, 0.3, 0.1)[-1] == (pytest.approx(0.2), 0.3)  # three, not four
    assert len(times.windows(0, 0.3, 0.1)) == 3


def test_the_largest_changes_are_taken_in_order_and_the_first_picture_always() -> None:
    moments = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    changes = [0, 1, 90, 1, 1, 50, 1, 80, 70, 1]
    assert times.at_changes(moments, changes, 4) == (0, 2, 5, 7)  # 8 is too near to 7
    assert times.at_changes(moments, changes, 1) == (0,)


def test_a_picture_that_never_changes_is_taken_once() -> None:
    assert times.at_changes([0, 1, 2], [0, 0, 0], 3) == (0,)
    assert times.at_changes([], [], 3) == ()
