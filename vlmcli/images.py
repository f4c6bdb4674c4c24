"""Bytes -> Image: upright sRGB pixels on white, whatever the file format, within the limits.

Knows Pillow, pypdfium2 and pillow_heif. Damaged and hostile bytes end in InputError: never in
another exception, a warning, or noise on stderr.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from hashlib import sha256
from io import BytesIO
from threading import RLock
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
from PIL import ExifTags, IcoImagePlugin, ImageCms

from vlmcli import silence
from vlmcli.errors import InputError
from vlmcli.formats import AVIF_BRANDS, FORMATS, HEIF_BRANDS, ICO_MAGIC, TIFF_MAGIC
from vlmcli.messages import Image

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

Pixels = PIL.Image.Image

# The first four need no further plugin, so the common ones come first. MPO opens as JPEG.
PILLOW_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF")

# 144 dpi makes 10-point print 20 pixels high, which vision models read, and a letter page 1.9 MP.
_PDF_SCALE = 144 / 72

_MODE_OF_COLOUR_SPACE = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}
_TRANSPOSE = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}

# Sizes are checked here, against `max_pixels`; Pillow's own limit would refuse allowed ones.
PIL.Image.MAX_IMAGE_PIXELS = None

# Without a handler, what these libraries log about damaged files would go to stderr.
for _library in ("PIL", "pillow_heif", "pypdfium2"):
    logging.getLogger(_library).addHandler(logging.NullHandler())

_pdfium_lock = RLock()  # pdfium crashes when two threads are in it


def members(name: str, data: bytes, page: int | None = None) -> list[tuple[str, int | None]]:
    """What `decode` gives, not decoded yet: the name of each, and the page that it is of a PDF.

    Raises InputError.
    """
    if b"%PDF-" in data[:1024]:
        stem = name.removesuffix(f"#page={page}")
        return [(f"{stem}#page={n}", n) for n in _page_numbers(name, data, page)]
    if page is not None:
        raise InputError(f"{name}: only a PDF has pages")
    return [(name, None)]


def count_pixels(data: bytes) -> int:
    """How many the header of a picture speaks of; 0 where it takes a decoder to tell."""
    with suppress(InputError), damage_reported(""):
        image = PIL.Image.open(BytesIO(data), formats=PILLOW_FORMATS)
        return image.width * image.height
    return 0


def decode(name: str, data: bytes, *, max_pixels: int, page: int | None = None) -> Iterator[Image]:
    """The picture in `data`, or the pages of a PDF, each rendered when it is asked for.

    `page` picks one page, from 1. A picture of more than `max_pixels` raises InputError; a page is
    rendered smaller instead.
    """
    digest = sha256(data).hexdigest()
    for member, number in members(name, data, page):
        if number is not None:
            yield Image(member, _render(name, data, number, max_pixels), digest)
            continue
        with damage_reported(name):
            pixels = as_seen(_load(name, data, max_pixels))
        yield Image(name, pixels, digest)


@contextmanager
def damage_reported(name: str) -> Iterator[None]:
    """Turns what a decoder raises into InputError, and drops what it warns about."""
    try:
        with silence.no_warnings:
            yield
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{name}: the picture does not fit in memory") from error
    # What decoders raise for damaged bytes is not a closed set: OSError, SyntaxError, ValueError,
    # struct.error, RuntimeError and more, some only when the pixels are converted.
    except Exception as error:
        words = str(error).lower()
        if any(sign in words for sign in ("truncat", "unexpected end", "insufficient")):
            raise InputError(f"{name}: the picture is cut short", hint="fetch it again") from error
        raise InputError(
            f"{name}: not a readable picture",
            hint=f"it is damaged, cut short, or none of {FORMATS}",
        ) from error


def _load(name: str, data: bytes, max_pixels: int) -> Pixels:
    if _is_heif(data):
        return _load_heif(name, data, max_pixels)
    quiet = silence.quiet_stderr() if data.startswith(TIFF_MAGIC) else nullcontext()
    with quiet:
        if data.startswith(ICO_MAGIC):
            # Image.open would decode an icon at once, and one may hold a PNG of any size.
            image = IcoImagePlugin.IcoFile(BytesIO(data)).frame(0)
        else:
            image = PIL.Image.open(BytesIO(data), formats=PILLOW_FORMATS)
        check_size(name, image.size, max_pixels)
        image.load()
    return image


def _load_heif(name: str, data: bytes, max_pixels: int) -> Pixels:
    try:
        from pillow_heif import open_heif
    except ImportError as error:
        raise InputError(
            f"{name}: HEIC needs one more package", hint='pip install "vlmcli[heif]"'
        ) from error
    container = open_heif(BytesIO(data))
    check_size(name, container.size, max_pixels)
    image: Pixels = container.to_pillow()
    return image


def check_size(name: str, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise InputError(
            f"{name}: {width} x {height} is more than {max_pixels} pixels",
            hint="--max-pixels raises the limit",
        )


def _is_heif(data: bytes) -> bool:
    """Whether the brands in front name HEIC, and not AVIF, which comes in the same container."""
    brands = data[8 : min(int.from_bytes(data[:4]), 256)]
    return (
        data[4:8] == b"ftyp"
        and any(brand in brands for brand in HEIF_BRANDS)
        and not any(brand in brands for brand in AVIF_BRANDS)
    )


def as_seen(image: Pixels) -> Pixels:
    """What a person would see: upright, in sRGB, on white, and without metadata."""
    profile = image.info.get("icc_profile")
    image = _upright(image)
    rgb = _srgb(_eight_bit(image), profile)
    alpha = _alpha(image)
    if alpha:
        white = PIL.Image.new("RGB", image.size, "white")
        white.paste(rgb, mask=alpha)
        return white
    rgb.info = {}  # Pillow would write the old profile, and more, into any copy that is saved
    return rgb


def _upright(image: Pixels) -> Pixels:
    # Not ImageOps.exif_transpose: it rewrites all of the EXIF block, and fails if that is damaged.
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # a damaged block raises anything; the picture itself is sound
        return image
    method = _TRANSPOSE.get(orientation or 1)
    return image if method is None else image.transpose(method)


def _alpha(image: Pixels) -> Pixels | None:
    transparent = image.info.get("transparency")
    if image.mode.startswith("I;16"):  # Pillow cannot convert it with its transparent grey
        if transparent is None:
            return None
        return PIL.Image.fromarray(np.where(np.asarray(image) == transparent, 0, 255).astype("u1"))
    return image.convert("RGBA").getchannel("A") if image.has_transparency_data else None


def _eight_bit(image: Pixels) -> Pixels:
    """The colours alone, 8 bits each, in a mode that a profile can be for: L, RGB, CMYK or LAB."""
    match image.mode:
        case "L" | "RGB" | "CMYK" | "LAB":
            return image
        case "1" | "LA":
            return image.convert("L")
        case "F" | "I":
            return _stretched(image)
        case mode if mode.startswith("I;16"):
            return PIL.Image.fromarray((np.asarray(image) / np.float32(257) + 0.5).astype("u1"))
        case _:
            return image.convert("RGB")


def _stretched(image: Pixels) -> Pixels:
    """Greys without a fixed white: 1, 255 or 65535, the first that fits, or else the brightest."""
    values = np.asarray(image, dtype=np.float32)  # (height, width)
    finite = values[np.isfinite(values)]
    black, white = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    usual = [scale for scale in (1.0, 255.0, 65535.0) if scale >= white]
    if black >= 0 and usual:
        black, white = 0.0, usual[0]
    values = np.nan_to_num(values, nan=black, posinf=white, neginf=black)
    shares = (values - black) / max(white - black, np.finfo(np.float32).tiny)
    return PIL.Image.fromarray((shares * 255 + 0.5).astype("u1"))


def _srgb(image: Pixels, profile_data: bytes | None) -> Pixels:
    if profile_data:
        try:
            return _from_profile(image, ImageCms.ImageCmsProfile(BytesIO(profile_data)))
        # A damaged profile, or one for other colours, is ignored, as browsers do.
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
            pass
    return image.convert("RGB")


def _from_profile(image: Pixels, profile: ImageCms.ImageCmsProfile) -> Pixels:
    mode = _MODE_OF_COLOUR_SPACE.get(profile.profile.xcolor_space.strip())
    if image.mode == "L" and mode == "RGB":  # grey pictures often carry the profile of the camera
        image = image.convert("RGB")
    if image.mode != mode:
        raise ValueError(f"a profile for {mode} in a picture of mode {image.mode}")
    if (profile.profile.profile_description or "").startswith("sRGB"):
        return image.convert("RGB")  # most pictures: saves 16 ms a megapixel
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    converted = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
    assert converted is not None  # it is only for inPlace=True
    return converted


@contextmanager
def _opened_pdf(name: str, data: bytes) -> Iterator["PdfDocument"]:
    try:
        from pypdfium2 import PdfDocument, PdfiumError
        from pypdfium2.raw import FPDF_ERR_PASSWORD
    except ImportError as error:
        raise InputError(
            f"{name}: PDF needs one more package", hint='pip install "vlmcli[pdf]"'
        ) from error
    with _pdfium_lock, damage_reported(name):
        try:
            document = PdfDocument(data)
        except PdfiumError as error:
            if error.err_code == FPDF_ERR_PASSWORD:
                raise InputError(
                    f"{name}: the PDF is locked with a password", hint="save a copy without one"
                ) from error
            raise
        with document:
            document.init_forms()  # without it, what was filled into a form is not drawn
            yield document


def _page_numbers(name: str, data: bytes, page: int | None) -> range:
    with _opened_pdf(name, data) as document:
        count = len(document)
    first, last = (1, count) if page is None else (page, page)
    if not 1 <= first <= count:
        raise InputError(f"{name}: there is no page {first}", hint=f"the PDF has {count}, from 1")
    return range(first, last + 1)


def _render(name: str, data: bytes, number: int, max_pixels: int) -> Pixels:
    # Opened again for each page (0.3 ms for 500 pages): no document waits half read for the caller.
    with _opened_pdf(name, data) as document:
        page = document[number - 1]
        width_points, height_points = page.get_size()
        fits = math.sqrt(max_pixels / (width_points * height_points))
        pixels: Pixels = page.render(scale=min(_PDF_SCALE, fits)).to_pil()
        return pixels.convert("RGB")  # a copy: the memory of the bitmap goes with the document
