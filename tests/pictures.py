"""Small pictures, colour profiles and PDFs for the tests, all made on the spot."""

import struct
import time
import zlib
from io import BytesIO

import pillow_heif
from PIL import Image

pillow_heif.register_heif_opener()  # for saving; vlm itself never registers it

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)

# The primaries of sRGB, adapted to D50: https://www.color.org/srgb.xalter
PRIMARIES = {
    "r": (0.4360, 0.2225, 0.0139),
    "g": (0.3851, 0.7169, 0.0971),
    "b": (0.1431, 0.0606, 0.7141),
}


def four_corners(size: int = 32) -> Image.Image:
    """Red, green / blue, white: each corner tells which way up a picture is."""
    small = Image.new("RGB", (2, 2))
    for index, colour in enumerate((RED, GREEN, BLUE, WHITE)):
        small.putpixel((index % 2, index // 2), colour)
    return small.resize((size, size), Image.Resampling.NEAREST)


def shaded() -> Image.Image:
    """60 x 40 pixels of gradients, so that every format has something to compress."""
    ring = Image.radial_gradient("L").resize((60, 40))
    slope = Image.linear_gradient("L").resize((60, 40))
    return Image.merge("RGB", (ring, slope, slope.rotate(180)))


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def plain(colour: tuple[int, ...] = RED, mode: str = "RGB") -> bytes:
    return encoded(Image.new(mode, (8, 8), colour), "PNG")


def every_format() -> dict[str, bytes]:
    """One sound file of each kind that is read, by name."""
    picture = shaded()
    return {
        "jpeg": encoded(picture, "JPEG"),
        "cmyk jpeg": encoded(picture.convert("CMYK"), "JPEG"),
        "mpo": encoded(picture, "MPO", save_all=True, append_images=[four_corners()]),
        "png": encoded(picture, "PNG"),
        "webp": encoded(picture, "WEBP"),
        "avif": encoded(picture, "AVIF"),
        "gif": encoded(picture, "GIF"),
        "tiff": encoded(picture, "TIFF"),
        "lzw tiff": encoded(picture, "TIFF", compression="tiff_lzw"),
        "jpeg tiff": encoded(picture, "TIFF", compression="jpeg"),
        "bmp": encoded(picture, "BMP"),
        "ico": encoded(picture, "ICO"),
        "bmp ico": encoded(picture, "ICO", bitmap_format="bmp"),
        "heic": encoded(picture, "HEIF"),
        "pdf": pdf_of_pictures(picture),
    }


def pdf_of_pictures(first: Image.Image, *more: Image.Image) -> bytes:
    then = time.gmtime(0)  # not now: the same pictures give the same bytes
    dates = {"creationDate": then, "modDate": then}
    return encoded(first, "PDF", save_all=True, append_images=list(more), **dates)


def pdf_of_objects(*objects: bytes, trailer: bytes = b"") -> bytes:
    """A PDF made of numbered objects, of which the first is the catalogue."""
    body, offsets = b"%PDF-1.7\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % o for o in offsets)
    count = len(objects) + 1
    end = b"trailer<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF" % (count, trailer, len(body))
    return body + b"xref\n0 %d\n%s%s" % (count, table, end)


def png_of(
    width: int, height: int, bits: int, colour_type: int, raw: bytes, **chunks: bytes
) -> bytes:
    """A PNG that Pillow does not write; `raw` is its lines, each with its filter in front."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(chunk(kind.encode(), content) for kind, content in chunks.items())
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )


def profile(colour_space: bytes, connection_space: bytes, **tags: bytes) -> bytes:
    """An ICC profile of the given tags: https://www.color.org/specification/ICC1v43_2010-12.pdf"""
    table, content = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name.encode() + struct.pack(">II", start + len(content), len(value))
        content += value + bytes(-len(value) % 4)
    header = bytearray(128)
    header[0:4] = struct.pack(">I", start + len(content))
    header[8:24] = b"\x02\x40\0\0" + b"mntr" + colour_space + connection_space
    header[36:40] = b"acsp"
    header[68:80] = struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1.0, 0.8249)))
    return bytes(header) + struct.pack(">I", len(tags)) + table + content


def linear_grey_profile() -> bytes:
    return profile(b"GRAY", b"XYZ ", kTRC=_linear_curve())


def profile_with_red_and_blue_swapped() -> bytes:
    return profile(
        b"RGB ",
        b"XYZ ",
        rXYZ=_xyz(*PRIMARIES["b"]),
        gXYZ=_xyz(*PRIMARIES["g"]),
        bXYZ=_xyz(*PRIMARIES["r"]),
        rTRC=_linear_curve(),
        gTRC=_linear_curve(),
        bTRC=_linear_curve(),
    )


def cmyk_profile_where_cyan_is_grey() -> bytes:
    lightness = [255, *[0] * 7, 128, *[0] * 7]  # of no ink 100, of cyan alone 50, of all else 0
    lab = b"".join(bytes((level, 128, 128)) for level in lightness)
    identity = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    ramp = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + identity + ramp * 4 + lab + ramp * 3
    return profile(b"CMYK", b"Lab ", A2B0=table)


def _linear_curve() -> bytes:
    return b"curv" + bytes(8)


def _xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in values))
