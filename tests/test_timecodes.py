"""Times that people write, and times as people and players read them."""

import random
import re

import pytest

from vlmcli import timecodes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        ("0", 0),
        ("10s", 10),
        ("0.25s", 0.25),
        ("2m", 120),
        ("90m", 5400),
        ("1.5h", 5400),
        ("1m30s", 90),
        ("1m30.1s", 90.1),
        ("1h2m3s", 3723),
        ("1h3s", 3603),
        ("500ms", 0.5),
        ("100ms", 0.1),
        ("1500ms", 1.5),
        ("1s500ms", 1.5),
        ("1:10", 70),
        ("1:5", 65),
        ("0:00.5", 0.5),
        ("90:00", 5400),
        ("01:02:03.25", 3723.25),
        (" 1:10\n", 70),
        ("0.3333333333333333", 1 / 3),
    ],
)
def test_what_people_write_is_seconds(text: str, seconds: float) -> None:
    assert timecodes.parse(text) == seconds


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \t", "empty"),
        ("-1", "negative"),
        ("-0:10", "negative"),
        ("1:99", "99 is not below 60"),
        ("1:60:00", "60 is not below 60"),
        ("1m60s", "60 is not below 60"),
        ("1s1000ms", "1000 is not below 1000"),
        ("1.5m30s", "fraction"),
        *(
            (text, "not a time such as")
            for text in (
                *("nan", "inf", "Infinity", "1e3", "0x10", "1_000", "+5", "1,5"),
                *("1:2:3:4", ":30", "1:", "1::2", "1.5:30", "1:10s", "1m30", "30s1m", "10 s"),
                *("s", "ms", "h", ".", ":", "1.", "10x", "10ss", "١٠", "１０", "9" * 5000),
            )
        ),
    ],
)
def test_anything_else_is_refused_with_a_short_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        timecodes.parse(text)
    assert len(str(refused.value)) < 60


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (10, "0:10"),
        (1.5, "0:01.5"),
        (9.96, "0:10"),
        (9.94, "0:09.9"),
        (59.96, "1:00"),
        (0.04, "0:00"),
        (599.99, "10:00"),
        (3599.96, "1:00:00"),
        (3723, "1:02:03"),
        (3723.25001, "1:02:03.3"),
        (360000, "100:00:00"),
        (-1e-9, "0:00"),
        (-0.0, "0:00"),
    ],
)
def test_a_time_for_people_has_no_more_than_it_needs(seconds: float, text: str) -> None:
    assert timecodes.clock(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "00:00:00.000"),
        (1.5, "00:00:01.500"),
        (59.9996, "00:01:00.000"),
        (3599.9996, "01:00:00.000"),
        (3723.0004, "01:02:03.000"),
        (0.1 + 0.2, "00:00:00.300"),
        (360000.001, "100:00:00.001"),
        (-1e-9, "00:00:00.000"),
    ],
)
def test_times_of_subtitles_differ_in_their_mark_alone(seconds: float, text: str) -> None:
    assert timecodes.vtt(seconds) == text
    assert timecodes.srt(seconds) == text.replace(".", ",")


def test_what_is_written_is_read_as_the_same_time() -> None:
    chance = random.Random(1)
    for _ in range(5000):
        seconds = chance.uniform(0, 10 ** chance.randint(0, 6))
        assert timecodes.parse(timecodes.vtt(seconds)) == round(seconds, 3)
        assert timecodes.parse(timecodes.clock(seconds)) == round(seconds, 1)
        assert timecodes.parse(f"{seconds:f}") == float(f"{seconds:f}")
        assert re.fullmatch(r"\d\d+:[0-5]\d:[0-5]\d,\d{3}", timecodes.srt(seconds))
        assert timecodes.vtt(round(seconds, 3)) == timecodes.vtt(seconds)  # as records have it
