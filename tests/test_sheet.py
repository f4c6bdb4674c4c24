"""The contact sheet: which frame is where, in which shape, and with words under it."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageColor

from vlmcli.video.sheet import contact_sheet

COLOURS = ("red", "lime", "blue", "yellow", "cyan", "magenta", "white")
Box = tuple[int, int, int, int]


def plain(count: int, size: tuple[int, int] = (160, 90)) -> list[tuple[str, Image.Image]]:
    """Frames each of a colour that no other of the sheet has."""
    colours = [(255 - 3 * n, 100 + 2 * n, 250 * (n % 2)) for n in range(count)]
    return [(f"0:{n:02}.0", Image.new("RGB", size, colour)) for n, colour in enumerate(colours)]


def box(sheet: Image.Image, colour: object) -> Box:
    """Where a colour is; every pixel in there has it."""
    mask = Image.fromarray((np.asarray(sheet) == colour).all(axis=2))
    found = mask.getbbox()
    assert found is not None
    assert mask.crop(found).convert("L").getextrema() == (255, 255)
    return found


def boxes(sheet: Image.Image, frames: list[tuple[str, Image.Image]]) -> list[Box]:
    return [box(sheet, frame.getpixel((0, 0))) for _, frame in frames]


def under(sheet: Image.Image, frame: Box) -> Image.Image:
    """The strip where the words of a frame stand."""
    left, _, right, bottom = frame
    return sheet.crop((left, bottom, right, bottom + 16))


def ink(strip: Image.Image) -> int:
    """How many pixels of a strip are bright."""
    return sum(strip.convert("L").histogram()[128:])


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_frames_are_in_order_row_by_row_and_have_words_under_them(count: int) -> None:
    frames = plain(count)
    sheet = contact_sheet(frames, width=1000)
    found = boxes(sheet, frames)
    assert sheet.mode == "RGB" and sheet.width == 1000
    assert sorted(found, key=lambda frame: (frame[1], frame[0])) == found
    assert len({(right - left, bottom - top) for left, top, right, bottom in found}) == 1
    for frame in found:
        assert ink(under(sheet, frame)) > 20
        assert 0 <= frame[0] < frame[2] <= 1000 and frame[3] + 11 < sheet.height


@pytest.mark.parametrize(
    ("count", "size", "grid"),
    [
        (1, (160, 90), (1, 1)),
        (1, (90, 160), (1, 1)),
        (2, (160, 90), (2, 1)),
        (4, (120, 90), (2, 2)),
        (7, (160, 90), (3, 3)),
        (9, (160, 90), (3, 3)),
        (12, (90, 160), (6, 2)),
        (64, (160, 90), (8, 8)),
    ],
)
def test_the_sheet_is_about_four_to_three_or_wider(
    count: int, size: tuple[int, int], grid: tuple[int, int]
) -> None:
    frames = plain(count, size)
    found = boxes(contact_sheet(frames), frames)
    assert (len({left for left, *_ in found}), len({top for _, top, *_ in found})) == grid


def test_frames_of_different_shapes_keep_them() -> None:
    sizes = [(160, 90), (90, 160), (100, 100), (400, 100), (30, 300), (1920, 1080)]
    frames = [
        ("0:01", Image.new("RGB", size, colour))
        for size, colour in zip(sizes, COLOURS, strict=False)
    ]
    sheet = contact_sheet(frames)
    found = boxes(sheet, frames)
    for (width, height), (left, top, right, bottom) in zip(sizes, found, strict=True):
        assert abs((right - left) - (bottom - top) * width / height) <= width / height + 1
    assert found[0][2] - found[0][0] == found[5][2] - found[5][0]  # of one shape, of one size
    for one, other in pairwise(found):
        assert one[2] < other[0] or one[3] < other[1]


def test_the_picture_in_a_cell_is_the_frame_and_not_only_its_colour() -> None:
    frame = Image.new("RGB", (64, 48), "red")
    frame.paste("blue", (0, 0, 32, 24))
    sheet = contact_sheet([("0:01", frame)], width=500)
    left, top, right, bottom = 8, 8, 490, 360
    assert sheet.getpixel((left, top)) == ImageColor.getrgb("blue")
    assert sheet.getpixel((right, top)) == ImageColor.getrgb("red")
    assert sheet.getpixel((left, bottom)) == ImageColor.getrgb("red")


def test_different_labels_look_different_and_an_empty_one_is_blank() -> None:
    frame = Image.new("RGB", (160, 90), "red")
    sheet = contact_sheet([("0:01", frame), ("0:02", frame), ("", frame), ("0:01", frame)])
    whole = box_of_each(sheet, 2, 2)
    one, two, empty, again = (cell.tobytes() for cell in whole)
    assert one == again and len({one, two, empty}) == 3
    assert ink(whole[2].crop((0, whole[2].height - 20, 500, whole[2].height))) == 0


def box_of_each(sheet: Image.Image, columns: int, rows: int) -> list[Image.Image]:
    """The cells of a sheet, each with its words, in order; all of one size."""
    width, height = (sheet.width - 6) // columns, (sheet.height - 6) // rows
    places = [(6 + x * width, 6 + y * height) for y in range(rows) for x in range(columns)]
    return [sheet.crop((x, y, x + width - 6, y + height - 6)) for x, y in places]


def test_a_long_label_stays_in_its_cell_and_keeps_its_ends() -> None:
    frame = Image.new("RGB", (160, 90), "red")

    def words(label: str) -> Image.Image:
        sheet = contact_sheet([(label, frame), ("", frame)], width=400)
        (cell, other) = box_of_each(sheet, 2, 1)
        assert ink(other.crop((0, 112, other.width, other.height))) == 0
        assert ink(sheet.crop((200, 0, 203, sheet.height))) == 0
        return cell.crop((0, cell.height - 16, cell.width, cell.height))

    middle = "a" * 300
    one, two = words(f"clip {middle} 0:01.5"), words(f"clip {middle} 0:09.5")
    assert ink(one) > 100
    assert one.tobytes() != two.tobytes()
    assert one.crop((0, 0, 60, 16)).tobytes() == two.crop((0, 0, 60, 16)).tobytes()
    assert words(f"clip {'b' * 300} 0:01.5").tobytes() != one.tobytes()


@pytest.mark.parametrize(
    "label",
    [
        "日本語の動画.mp4 0:01.5",
        "مرحبا 0:01.5",
        "😀👩‍👩‍👧 0:01",
        "two\nlines\tand\x00\x1b[31m more",
        "\ud800 0:01",
        "\u202edrowssap",
        "e\u0301" * 200,
        "x" * 20_000,
        "",
    ],
)
def test_a_label_may_hold_anything(label: str) -> None:
    frame = Image.new("RGB", (160, 90), "red")
    labelled, other = (contact_sheet([(text, frame)] * 3, width=300) for text in (label, "0:01"))
    assert labelled.size == other.size


@pytest.mark.parametrize(("mode", "colour"), [("L", 200), ("RGBA", (1, 2, 3, 255)), ("P", 7)])
def test_a_frame_may_be_of_any_mode(mode: str, colour: object) -> None:
    frame = Image.new(mode, (40, 30), colour)  # type: ignore[arg-type]
    sheet = contact_sheet([("0:01", frame)], width=200)
    assert sheet.getpixel((100, 60)) == frame.convert("RGB").getpixel((0, 0))


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (1, 1)])
def test_a_frame_of_an_extreme_shape_makes_no_sheet_of_one(size: tuple[int, int]) -> None:
    sheet = contact_sheet([("0:01", Image.new("RGB", size, "red"))], width=600)
    assert 200 <= sheet.height <= 1300


@pytest.mark.parametrize("width", [1, 20, 70])
def test_a_sheet_may_be_narrower_than_a_cell_should_be(width: int) -> None:
    assert contact_sheet(plain(3), width=width).width == width
