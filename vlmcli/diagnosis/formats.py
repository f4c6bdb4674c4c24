"""Which pictures and videos can be read."""

from collections.abc import Iterator

from vlmcli.diagnosis.software import import_fault
from vlmcli.output import Finding, State

_GROUP = "formats"

# A format -> what Pillow calls the library behind it; empty where it needs none.
PILLOW = {
    "JPEG": "jpg",
    "PNG": "zlib",
    "WebP": "webp",
    "AVIF": "avif",
    "GIF": "",
    "TIFF": "libtiff",
    "BMP": "",
    "ICO": "",
}
EXTRAS = {"HEIC": "pillow_heif", "PDF": "pypdfium2"}

# FFmpeg's own decoder of AV1 needs a GPU that has one.
DECODERS = {
    "h264": ("h264",),
    "hevc": ("hevc",),
    "vp8": ("vp8",),
    "vp9": ("vp9",),
    "av1": ("libdav1d", "libaom-av1", "libgav1"),
    "mpeg4": ("mpeg4",),
    "mpeg2": ("mpeg2video",),
    "prores": ("prores",),
    "mjpeg": ("mjpeg",),
}
_REINSTALL = "the wheels on PyPI have them: pip install --force-reinstall --only-binary :all: "


def findings() -> Iterator[Finding]:
    """The formats of pictures, then the codecs of videos."""
    if not import_fault("PIL"):
        yield _pictures()
    if not import_fault("av"):
        yield _videos()


def _pictures() -> Finding:
    from PIL import features

    readable = [name for name, library in PILLOW.items() if not library or features.check(library)]
    lacking = [name for name in PILLOW if name not in readable]
    faults = {name: import_fault(module) for name, module in EXTRAS.items()}
    readable += [name for name, fault in faults.items() if not fault]
    missing = lacking + [name for name, fault in faults.items() if fault]
    broken = [fault for fault in faults.values() if fault and "not installed" not in fault]
    state = State.WARNING if lacking or broken else State.NOTE if missing else State.OK
    hint = f"{_REINSTALL}pillow" if lacking else "; ".join(broken)
    return _listed("pictures", readable, missing, state, hint)


def _videos() -> Finding:
    readable = [name for name, decoders in DECODERS.items() if any(map(_decodes, decoders))]
    missing = [name for name in DECODERS if name not in readable]
    state, hint = (State.WARNING, f"{_REINSTALL}av") if missing else (State.OK, "")
    return _listed("video", readable, missing, state, hint)


def _decodes(codec: str) -> bool:
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError

    try:
        Codec(codec, "r")
    except UnknownCodecError:
        return False
    return True


def _listed(name: str, readable: list[str], missing: list[str], state: State, hint: str) -> Finding:
    value = ", ".join(readable) + (f"; not {', '.join(missing)}" if missing else "")
    return Finding(_GROUP, name, value, state, hint, {"readable": readable, "missing": missing})
