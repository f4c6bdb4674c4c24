"""images: every format to upright RGB, and nothing worse than an InputError from any bytes."""

import io
import os
import struct
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import numpy as np
import pictures
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import BLUE, GREEN, RED, WHITE, encoded
from PIL import ImageCms

from vlmcli import images
from vlmcli.errors import InputError
from vlmcli.messages import Image

FILES = pictures.every_format()
PLENTY = 200_000_000


def decoded(data: bytes, name: str = "x.jpg", max_pixels: int = PLENTY) -> PIL.Image.Image:
    (image,) = images.decode(name, data, max_pixels=max_pixels)
    return image.pixels


def error_of(data: bytes, name: str = "x.jpg", **options: int) -> str:
    with pytest.raises(InputError) as caught:
        list(images.decode(name, data, **{"max_pixels": PLENTY, **options}))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def near(pixel: object, colour: tuple[int, ...], within: int = 12) -> bool:
    return all(abs(a - b) <= within for a, b in zip(pixel, colour, strict=True))


def corners(image: PIL.Image.Image) -> str:
    """The colours of the four corners, in reading order, as letters."""
    right, bottom = image.width - 3, image.height - 3
    letters = ""
    for place in ((2, 2), (right, 2), (2, bottom), (right, bottom)):
        pixel = image.getpixel(place)
        letters += next(
            letter
            for letter, colour in zip("RGBW", (RED, GREEN, BLUE, WHITE), strict=True)
            if near(pixel, colour, 60)
        )
    return letters


# Formats


@pytest.mark.parametrize("kind", FILES)
def test_each_format_is_decoded_to_rgb_and_looks_as_it_was_saved(kind):
    image = next(images.decode("x", FILES[kind], max_pixels=PLENTY))
    shown, original = image.pixels.resize((60, 40)), pictures.shaded()
    difference = np.abs(np.asarray(shown, int) - np.asarray(original, int)).mean()
    assert (image.pixels.mode, difference < 12) == ("RGB", True)


def test_the_image_carries_the_name_and_the_digest_of_its_bytes():
    (image,) = images.decode("cat.png", FILES["png"], max_pixels=PLENTY)
    assert isinstance(image, Image)
    assert (image.name, image.sha256) == ("cat.png", sha256(FILES["png"]).hexdigest())
    assert (image.width, image.height) == (60, 40)


def test_an_animation_gives_its_first_frame():
    frames = [PIL.Image.new("RGB", (8, 8), colour) for colour in (GREEN, RED)]
    for file_format in ("GIF", "PNG", "WEBP", "AVIF", "TIFF"):
        data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:])
        assert near(decoded(data).getpixel((4, 4)), GREEN), file_format


def test_of_a_stereo_picture_the_first_view_is_taken():
    data = encoded(pictures.shaded(), "MPO", save_all=True, append_images=[pictures.four_corners()])
    assert decoded(data).size == (60, 40)


def test_of_an_icon_the_largest_picture_is_taken():
    data = encoded(pictures.four_corners(64), "ICO", sizes=[(16, 16), (64, 64)])
    assert decoded(data).size == (64, 64)


def test_a_format_that_is_not_listed_is_not_handed_to_pillow():
    assert "JPEG, PNG" in error_of(encoded(pictures.shaded(), "PPM"))


def test_without_pillow_heif_a_heic_file_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert 'pip install "vlmcli[heif]"' in error_of(FILES["heic"], "x.heic")
    assert decoded(FILES["avif"]).size == (60, 40)


# Orientation


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "HEIF"])
@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        *((1, "RGBW"), (2, "GRWB"), (3, "WBGR"), (4, "BWRG")),
        *((5, "RBGW"), (6, "BRWG"), (7, "WGBR"), (8, "GWRB")),
    ],
)
def test_a_picture_is_turned_upright(file_format, orientation, expected):
    # https://exiftool.org/TagNames/EXIF.html: 6 is "rotate 90 CW", and so on
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    data = encoded(pictures.four_corners(), file_format, exif=exif.tobytes())
    assert corners(decoded(data)) == expected


def test_a_turned_oblong_swaps_its_sides():
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    assert decoded(encoded(pictures.shaded(), "JPEG", exif=exif)).size == (40, 60)


def test_an_unknown_orientation_changes_nothing():
    exif = PIL.Image.Exif()
    exif[0x0112] = 77
    assert corners(decoded(encoded(pictures.four_corners(), "JPEG", exif=exif))) == "RGBW"


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "HEIF"])
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"II*\0"])
def test_a_damaged_exif_block_does_not_fail_the_picture(file_format, exif):
    data = encoded(pictures.four_corners(), file_format, exif=exif)
    assert corners(decoded(data)) == "RGBW"


def test_the_orientation_counts_even_if_the_rest_of_the_exif_block_is_damaged():
    entries = struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<HHII", 0x829A, 5, 9, 0xFFFFFF)
    exif = b"Exif\0\0" + struct.pack("<2sHIH", b"II", 42, 8, 2) + entries + bytes(4)
    assert corners(decoded(encoded(pictures.four_corners(), "JPEG", exif=exif))) == "BRWG"


# Transparency


def test_what_is_transparent_is_white():
    picture = PIL.Image.new("RGBA", (3, 1), (255, 0, 0, 255))
    picture.putpixel((1, 0), (255, 0, 0, 0))
    picture.putpixel((2, 0), (255, 0, 0, 128))
    row = decoded(encoded(picture, "PNG"))
    assert [row.getpixel((x, 0)) for x in range(3)] == [RED, WHITE, (255, 127, 127)]


@pytest.mark.parametrize(
    ("file_format", "mode"), [("PNG", "LA"), ("WEBP", "RGBA"), ("TIFF", "RGBA"), ("HEIF", "RGBA")]
)
def test_every_format_with_alpha_ends_on_white(file_format, mode):
    picture = PIL.Image.new("RGBA", (64, 64), (0, 0, 0, 0)).convert(mode)
    assert decoded(encoded(picture, file_format)).getpixel((4, 4)) == WHITE


@pytest.mark.parametrize("transparency", [1, bytes((255, 0))])
def test_a_transparent_palette_entry_is_white(transparency):
    picture = PIL.Image.new("P", (2, 1))
    picture.putpalette([0, 0, 255, 255, 0, 0])
    picture.putpixel((1, 0), 1)
    row = decoded(encoded(picture, "PNG", transparency=transparency))
    assert [row.getpixel((x, 0)) for x in range(2)] == [BLUE, WHITE]


def test_a_transparent_grey_is_white_in_8_and_in_16_bits():
    lines = {8: b"\0" + bytes((9, 128)), 16: b"\0" + struct.pack(">2H", 9, 0x8000)}
    for bits, raw in lines.items():
        row = decoded(pictures.png_of(2, 1, bits, 0, raw, tRNS=struct.pack(">H", 9)))
        assert [row.getpixel((x, 0)) for x in range(2)] == [WHITE, (128, 128, 128)], bits


# Colours and depths


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(file_format):
    values = np.array([[0, 257, 128 * 257, 65535]], dtype="u2")
    row = decoded(encoded(PIL.Image.fromarray(values), file_format))
    assert [row.getpixel((x, 0))[0] for x in range(4)] == [0, 1, 128, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),  # the unit interval
        ([0.0, 100.0, 200.0], [0, 100, 200]),  # 8-bit values in floats
        ([0.0, 257.0, 65535.0], [0, 1, 255]),  # 16-bit values
        ([-1.0, 0.0, 1.0], [0, 128, 255]),  # anything else: from the darkest to the brightest
        ([0.0, 5e5, 1e6], [0, 128, 255]),
        ([float("nan"), 0.0, 1.0], [0, 0, 255]),
        ([float("inf"), 0.5, float("-inf")], [255, 128, 0]),
        ([float("nan")] * 3, [0, 0, 0]),
        ([-7.0, -7.0, -7.0], [0, 0, 0]),
    ],
)
def test_floating_point_greys_get_a_white_that_fits(values, expected):
    data = encoded(PIL.Image.fromarray(np.array([values], dtype="f4")), "TIFF")
    assert [decoded(data).getpixel((x, 0))[0] for x in range(3)] == expected


def test_32_bit_greys_are_scaled():
    data = encoded(PIL.Image.fromarray(np.array([[0, 32768, 65535]], dtype="i4")), "TIFF")
    assert [decoded(data).getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]


def test_every_colour_model_shows_the_same_colour():
    orange = PIL.Image.new("RGB", (16, 16), (200, 100, 50))
    lab = ImageCms.profileToProfile(
        orange, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    for data in (
        encoded(orange.convert("CMYK"), "TIFF"),
        encoded(orange.convert("CMYK"), "JPEG", quality=95),
        encoded(orange.convert("YCbCr"), "TIFF"),
        encoded(orange.convert("YCbCr"), "JPEG", quality=95),
        encoded(lab, "TIFF"),
        encoded(orange.quantize(4), "GIF"),
    ):
        assert near(decoded(data).getpixel((8, 8)), (200, 100, 50), 5)


def test_black_and_white_stays_black_and_white():
    picture = PIL.Image.new("1", (2, 1))
    picture.putpixel((1, 0), 1)
    row = decoded(encoded(picture, "PNG"))
    assert [row.getpixel((x, 0)) for x in range(2)] == [(0, 0, 0), WHITE]


def test_an_embedded_profile_is_applied():
    swapped = pictures.profile_with_red_and_blue_swapped()
    picture = PIL.Image.new("RGB", (8, 8), RED)
    for file_format in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF"):
        pixel = decoded(encoded(picture, file_format, icc_profile=swapped)).getpixel((4, 4))
        assert near(pixel, BLUE, 25), file_format


def test_a_profile_applies_under_transparency_and_to_a_palette():
    swapped = pictures.profile_with_red_and_blue_swapped()
    picture = PIL.Image.new("RGBA", (8, 8), (255, 0, 0, 255))
    picture.putpixel((0, 0), (255, 0, 0, 0))
    clear = decoded(encoded(picture, "PNG", icc_profile=swapped))
    assert clear.getpixel((0, 0)) == WHITE and near(clear.getpixel((4, 4)), BLUE, 25)
    palette = encoded(PIL.Image.new("RGB", (8, 8), RED).quantize(2), "PNG", icc_profile=swapped)
    assert near(decoded(palette).getpixel((4, 4)), BLUE, 25)


def test_a_grey_profile_is_applied():
    picture = PIL.Image.new("L", (8, 8), 128)
    data = encoded(picture, "PNG", icc_profile=pictures.linear_grey_profile())
    assert near(decoded(data).getpixel((4, 4)), (188, 188, 188), 2)  # half the light


def test_a_grey_picture_with_the_profile_of_a_camera_is_converted_too():
    swapped = pictures.profile_with_red_and_blue_swapped()  # its curves are linear as well
    data = encoded(PIL.Image.new("L", (8, 8), 128), "PNG", icc_profile=swapped)
    assert near(decoded(data).getpixel((4, 4)), (188, 188, 188), 4)


def test_a_cmyk_profile_is_applied():
    cyan = PIL.Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    grey = pictures.cmyk_profile_where_cyan_is_grey()
    for file_format in ("TIFF", "JPEG"):
        assert near(decoded(encoded(cyan, file_format)).getpixel((4, 4)), (0, 255, 255))
        pixel = decoded(encoded(cyan, file_format, icc_profile=grey)).getpixel((4, 4))
        assert near(pixel, (119, 119, 119), 3)  # L* = 50


def test_an_srgb_profile_leaves_the_pixels_alone():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encoded(pictures.shaded(), "PNG", icc_profile=srgb)
    assert decoded(data).tobytes() == pictures.shaded().tobytes()


@pytest.mark.parametrize(
    "bad",
    [
        b"not a profile",
        pictures.profile_with_red_and_blue_swapped()[:200],
        pictures.linear_grey_profile(),  # for grey, in a picture of colours
        pictures.profile(b"RGB ", b"XYZ "),  # without a single tag
        pictures.profile(b"HSV ", b"XYZ "),
    ],
)
def test_a_damaged_or_unfit_profile_is_ignored(bad):
    data = encoded(PIL.Image.new("RGB", (8, 8), RED), "PNG", icc_profile=bad)
    assert decoded(data).getpixel((4, 4)) == RED


def test_no_metadata_goes_on_with_the_pixels():
    exif = PIL.Image.Exif()
    exif[0x010F] = "a camera"
    swapped = pictures.profile_with_red_and_blue_swapped()
    data = encoded(pictures.shaded(), "JPEG", exif=exif, icc_profile=swapped, comment="at home")
    again = PIL.Image.open(io.BytesIO(encoded(decoded(data), "PNG")))
    assert (again.info, dict(again.getexif())) == ({}, {})


# Limits


@pytest.mark.parametrize("kind", [kind for kind in FILES if kind != "pdf"])
def test_the_limit_is_on_the_pixels_of_the_picture(kind):
    width, height = decoded(FILES[kind]).size
    assert decoded(FILES[kind], max_pixels=width * height)
    message = error_of(FILES[kind], max_pixels=width * height - 1)
    assert f"{width} x {height}" in message and "--max-pixels" in message
    assert f"{width * height - 1} pixels" in message


def test_a_bomb_is_refused_before_it_is_unpacked():
    bomb = pictures.png_of(60_000, 60_000, 8, 2, bytes(180_001))
    assert "60000 x 60000" in error_of(bomb)


def test_a_bomb_inside_an_icon_is_refused_before_it_is_unpacked():
    bomb = pictures.png_of(60_000, 60_000, 8, 2, bytes(180_001))
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(bomb), 22)
    assert "60000 x 60000" in error_of(b"\0\0\1\0\1\0" + entry + bomb)


def test_a_picture_beyond_pillows_own_limit_gets_as_far_as_its_pixels():
    # 182 million pixels, where Pillow warns at 89 and refuses 179; without data, to save the time
    data = pictures.png_of(13_500, 13_500, 1, 0, bytes(10))
    with warnings.catch_warnings(action="error"):
        assert "cut short" in error_of(data)


@pytest.mark.parametrize("colour_type", [0, 2])
def test_a_picture_without_pixels_is_refused(colour_type):
    assert "not a readable picture" in error_of(pictures.png_of(0, 0, 8, colour_type, b""))


def test_running_out_of_memory_is_an_input_error(monkeypatch):
    def exhausted(*_args, **_options):
        raise MemoryError

    monkeypatch.setattr(PIL.Image, "open", exhausted)
    assert "memory" in error_of(FILES["png"])


# Damage


@pytest.mark.parametrize("kind", FILES)
def test_a_picture_cut_in_half_says_that_it_is_cut_short(kind):
    message = error_of(FILES[kind][: len(FILES[kind]) // 2])
    assert message.startswith("x.jpg: ") and "cut short" in message


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "tiff", "bmp", "ico"])
def test_a_picture_cut_near_its_end_is_not_completed_by_guessing(kind):
    data = FILES[kind]
    assert "the picture is cut short" in error_of(data[: int(len(data) * 0.9)])


@pytest.mark.parametrize("junk", [b"", b"hello", bytes(5000), b"%PDF", b"\xff\xd8\xff", b"BM"])
def test_what_is_no_picture_is_refused(junk):
    assert "not a readable picture" in error_of(junk)


def test_damaged_tiff_prints_nothing_even_from_c(capfd):
    cut = FILES["jpeg tiff"][:-200]  # libtiff prints about this one, to file descriptor 2
    assert "cut short" in error_of(cut)
    assert capfd.readouterr() == ("", "")


def test_damaged_tiff_is_read_with_stderr_closed_too():
    code = (
        "import os, sys; from vlmcli import images; os.close(2)\n"
        "data = sys.stdin.buffer.read()\n"
        "print(next(images.decode('x', data, max_pixels=10**6)).width)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=FILES["tiff"], stdout=subprocess.PIPE, check=True
    )
    assert done.stdout == b"60\n"


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """The file cut, with bytes changed, or with a piece of another file in it."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        # Headers decide the most: half of all changes go there.
        place = draw(st.integers(0, min(300, len(changed) - 1)) | st.integers(0, len(changed) - 1))
        match draw(st.sampled_from(["flip", "set", "cut", "splice"])):
            case "flip":
                changed[place] ^= 1 << draw(st.integers(0, 7))
            case "set":
                changed[place] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
            case "cut":
                del changed[max(place, 8) :]
            case "splice":
                other = FILES[draw(st.sampled_from(sorted(FILES)))]
                start = draw(st.integers(0, len(other) - 1))
                changed[place : place + 16] = other[start : start + draw(st.integers(0, 64))]
    return bytes(changed)


@pytest.mark.parametrize("kind", FILES)
def test_no_damage_ends_in_anything_but_a_picture_or_an_input_error(kind, capfd):
    @settings(max_examples=100, deadline=None, derandomize=True, database=None)
    @given(damaged(FILES[kind]))
    def check(data: bytes) -> None:
        try:
            for image in images.decode("x", data, max_pixels=4_000_000):
                assert image.pixels.mode == "RGB"
        except InputError as error:
            assert str(error).startswith("x: ")

    with warnings.catch_warnings(action="error"):
        check()
    assert capfd.readouterr().err == ""


# PDF


def pages(*colours: tuple[int, ...]) -> bytes:
    return pictures.pdf_of_pictures(*(PIL.Image.new("RGB", (72, 36), colour) for colour in colours))


def test_a_pdf_gives_its_pages_in_order_each_with_its_own_name():
    data = pages(RED, GREEN, BLUE)
    rendered = list(images.decode("doc.pdf", data, max_pixels=PLENTY))
    assert [image.name for image in rendered] == [f"doc.pdf#page={n}" for n in (1, 2, 3)]
    for image, colour in zip(rendered, (RED, GREEN, BLUE), strict=True):
        assert near(image.pixels.getpixel((20, 20)), colour)
    assert {image.sha256 for image in rendered} == {sha256(data).hexdigest()}


def test_a_page_is_rendered_at_144_dots_an_inch():
    assert decoded(pages(RED)).size == (144, 72)  # Pillow's PDFs have one pixel a point


def test_a_page_over_the_limit_is_rendered_smaller():
    image = decoded(pages(RED), max_pixels=72 * 36)
    assert image.size == (72, 36)


def test_one_page_can_be_picked():
    data = pages(RED, GREEN, BLUE)
    for name in ("doc.pdf", "doc.pdf#page=2"):
        (image,) = images.decode(name, data, max_pixels=PLENTY, page=2)
        assert image.name == "doc.pdf#page=2" and near(image.pixels.getpixel((20, 20)), GREEN)


@pytest.mark.parametrize("page", [0, 4])
def test_a_page_that_is_not_there_is_refused_with_the_count(page):
    message = error_of(pages(RED, GREEN, BLUE), "doc.pdf", page=page)
    assert f"no page {page}" in message and "3" in message


def test_only_a_pdf_has_pages():
    assert "only a PDF has pages" in error_of(FILES["png"], page=2)


def test_pages_are_rendered_only_as_they_are_asked_for():
    # The second page is said to exist, but does not.
    tree = b"<</Type/Pages/Kids[3 0 R]/Count 2>>"
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 72 36]>>"
    data = pictures.pdf_of_objects(b"<</Type/Catalog/Pages 2 0 R>>", tree, page)
    rendering = images.decode("doc.pdf", data, max_pixels=PLENTY)
    assert next(rendering).pixels.size == (144, 72)
    with pytest.raises(InputError, match=r"doc\.pdf"):
        next(rendering)


def test_a_pdf_without_pages_is_refused():
    tree = b"<</Type/Pages/Kids[]/Count 0>>"
    data = pictures.pdf_of_objects(b"<</Type/Catalog/Pages 2 0 R>>", tree)
    assert "not a readable picture" in error_of(data, "doc.pdf")


def test_a_locked_pdf_says_so():
    encrypt = b"/Encrypt<</Filter/Standard/V 1/R 2/P -1/O(%s)/U(%s)>>/ID[(ab)(ab)]" % (
        b"o" * 32,
        b"u" * 32,
    )
    tree = b"<</Type/Pages/Kids[]/Count 0>>"
    data = pictures.pdf_of_objects(b"<</Type/Catalog/Pages 2 0 R>>", tree, trailer=encrypt)
    assert "password" in error_of(data, "doc.pdf")


def test_what_was_filled_into_a_form_is_drawn():
    drawing = b"1 0 0 rg 0 0 50 50 re f"
    data = pictures.pdf_of_objects(
        b"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[4 0 R]>>>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 100 100]/Annots[4 0 R]>>",
        b"<</Type/Annot/Subtype/Widget/FT/Tx/T(a)/V(x)/F 4/Rect[0 0 50 50]/AP<</N 5 0 R>>>>",
        b"<</Type/XObject/Subtype/Form/BBox[0 0 50 50]/Length %d>>stream\n%s\nendstream"
        % (len(drawing), drawing),
    )
    image = decoded(data, "form.pdf")
    assert (image.getpixel((40, 160)), image.getpixel((150, 50))) == (RED, WHITE)


def test_without_pypdfium2_a_pdf_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    assert 'pip install "vlmcli[pdf]"' in error_of(pages(RED), "doc.pdf")


def test_threads_can_decode_side_by_side():
    # pdfium alone would crash, and two threads that silence stderr must not leave it silenced.
    kinds = ["pdf", "jpeg tiff", "png", "heic"] * 10
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(lambda kind: decoded(FILES[kind]).size, kinds))
    assert sizes == [decoded(FILES[kind]).size for kind in kinds]
    assert os.fstat(2).st_rdev != Path(os.devnull).stat().st_rdev
