"""What the first bytes of a file say that it is; standard library only."""

import codecs

FORMATS = "JPEG, PNG, WebP, AVIF, GIF, TIFF, BMP, ICO, HEIC and PDF"
SUFFIXES = {".jpg", ".jpeg", ".jpe", ".mpo", ".png", ".webp", ".avif", ".gif"}
SUFFIXES |= {".tif", ".tiff", ".bmp", ".ico", ".heic", ".heif", ".pdf"}

CLIP_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts"}
CLIP_SUFFIXES |= {".mts", ".flv", ".wmv", ".ogv", ".3gp", ".mxf", ".h264", ".264", ".h265", ".hevc"}
CLIP_SUFFIXES |= {".ivf", ".obu", ".vob", ".dv", ".mjpeg", ".y4m"}

HEAD_BYTES = 1024  # a PDF may start with this much of something else
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two: BigTIFF
ICO_MAGIC = b"\0\0\1\0"
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
AVIF_BRANDS = (b"avif", b"avis")  # in the same container
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", *TIFF_MAGIC)
_BMP_HEADER_BYTES = (12, 40, 52, 56, 64, 108, 124)
_SEEMS = (  # in lower case, as letters are compared
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"<svg", "an SVG drawing"),
    (b"\x1ae\xdf\xa3", "a video"),
    (b"riff", "a video or a sound"),
    (b"id3", "a sound"),
    (b"8bps", "a Photoshop file"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cjxl ", "JPEG XL"),
    (b"\0\0\0\x0cjp  ", "JPEG 2000"),
    (b"pk\x03\x04", "a zip archive or an office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"\x7felf", "a program"),
)


def is_picture(head: bytes) -> bool:
    """Whether a file that begins with `head` (HEAD_BYTES of it) is a picture or a PDF."""
    return (
        head.startswith(_MAGIC)
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[4:8] == b"ftyp" and any(b in head[8:64] for b in HEIF_BRANDS + AVIF_BRANDS))
        or (head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADER_BYTES)
        or (head[:4] == ICO_MAGIC and head[4:6] != b"\0\0")  # ICO, and how many are in it
        or b"%PDF-" in head
    )


def seems(head: bytes) -> str:
    """What a file that begins with `head` is instead of a picture, in words; "" if unknown."""
    start = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if start.startswith(b"<?xml") and b"<svg" in start:
        return "an SVG drawing"
    for mark, what in _SEEMS:
        if start.startswith(mark):
            return what
    if head[4:8] == b"ftyp":
        return "a video"
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # may end within a character
    except UnicodeDecodeError:
        return ""
    return "" if "\0" in text else "text"
