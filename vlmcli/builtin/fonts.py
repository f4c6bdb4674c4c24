"""The fonts of this machine: which there are, and which are kept for the evaluation."""

import sys
import zlib
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont

# Faces of signs, of formulas, and of scripts whose Latin letters come from elsewhere.
_NOT_FOR_WORDS = (
    "symbol",
    "dingbat",
    "math",
    "emoji",
    "bullet",
    "braille",
    "ding",
    "music",
    "d05",
    "keyboard",
    "z003",
    "cmex",
    "cmmi",
    "cmsy",
)
# What people draw with most: always seen in training, never held out.
_EVERYDAY = ("Aileron", "DejaVu Sans")
# The same drawings under another name: one of them held out and the other not would be a leak.
_SAME = {"Arimo": "Liberation Sans", "Tinos": "Liberation Serif", "Cousine": "Liberation Mono"}


@dataclass(frozen=True, slots=True)
class Face:
    """A font file and its family; the path of Pillow's own font is empty."""

    path: str
    family: str


def font(face: Face, size_px: int) -> Font:
    return _load(face.path, size_px)


@lru_cache(maxsize=2048)
def _load(path: str, size_px: int) -> Font:
    if path:
        return ImageFont.truetype(path, size_px, layout_engine=ImageFont.Layout.BASIC)
    built_in = ImageFont.load_default(size_px)
    assert isinstance(built_in, ImageFont.FreeTypeFont)  # Pillow without FreeType draws no text
    return built_in


def training_faces() -> list[Face]:
    """Faces to train with, the plainest first."""
    faces = [face for face in _all_faces() if not _is_held_out(face)]
    return sorted(
        faces, key=lambda face: (face.family not in _EVERYDAY, "-" in Path(face.path).stem)
    )


def held_out_faces() -> list[Face]:
    """Faces that no training picture shows; with too few fonts on the machine, all faces."""
    return [face for face in _all_faces() if _is_held_out(face)] or list(_all_faces())


def _is_held_out(face: Face) -> bool:
    family = _SAME.get(face.family, face.family)
    return family not in _EVERYDAY and zlib.crc32(family.encode()) % 5 == 0


@cache
def _all_faces() -> tuple[Face, ...]:
    faces = [Face("", "Aileron")]
    for path in sorted({path for folder in _folders() for path in folder.rglob("*.[to]tf")}):
        if any(word in path.stem.lower() for word in _NOT_FOR_WORDS):
            continue
        try:
            loaded = ImageFont.truetype(str(path), 24, layout_engine=ImageFont.Layout.BASIC)
        except OSError:
            continue
        if _has_latin(loaded):
            faces.append(Face(str(path), loaded.getname()[0] or path.stem))
    return tuple(faces)


def _folders() -> list[Path]:
    folders = [
        Path("/usr/share/fonts"),
        Path("/usr/local/share/fonts"),
        Path.home() / ".fonts",
        Path.home() / ".local/share/fonts",
        Path("/System/Library/Fonts"),
        Path("/Library/Fonts"),
        Path("C:/Windows/Fonts"),
    ]
    if (matplotlib := find_spec("matplotlib")) and matplotlib.origin:
        folders.append(Path(matplotlib.origin).parent / "mpl-data/fonts/ttf")
    return [folder for folder in folders if folder.is_dir()]


def _has_latin(loaded: Font) -> bool:
    """Whether letters and digits have shapes of their own: a missing one is drawn as a box."""
    try:
        shapes = {bytes(loaded.getmask(char)) for char in "AEgkRs358%"}
    except OSError:
        return False
    return len(shapes) == 10 and all(any(shape) for shape in shapes)


if __name__ == "__main__":
    for kind, faces in (("training", training_faces()), ("held out", held_out_faces())):
        families = sorted({face.family for face in faces})
        sys.stdout.write(f"{kind}: {len(faces)} faces, {len(families)} families: {families}\n")
