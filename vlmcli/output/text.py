"""Text from models and file names, made safe to show: pure functions, standard library only."""

import json
import re
from collections.abc import Mapping

_BIDI = "\u202a-\u202e\u2066-\u2069"  # they reorder what a reader sees
_SURROGATES = "\ud800-\udfff"  # no encoding can write them
_REMOVED = re.compile(rf"[\x00-\x08\x0b-\x1f\x7f-\x9f{_BIDI}]")
_LONE_SURROGATES = re.compile(f"[{_SURROGATES}]")
_LINE_BREAKS = re.compile("[\n\t\u2028\u2029]+")
_UNSAFE_IN_JSON = re.compile(f"[\x7f-\x9f{_BIDI}{_SURROGATES}\u2028\u2029]")


def clean(text: str) -> str:
    """`text` without anything that commands a terminal; newlines and tabs stay.

    Works on single characters, so a stream may cut an escape sequence or a "\\r\\n" in two. Lone
    surrogates become U+FFFD, so that the result can always be encoded.
    """
    return _LONE_SURROGATES.sub("\ufffd", _REMOVED.sub("", text))


def fold(text: str) -> str:
    """`text` cleaned and on one line."""
    return _LINE_BREAKS.sub(" ", clean(text)).strip()


def as_json(fields: Mapping[str, object], *, ascii_only: bool, indent: int | None = None) -> str:
    """One JSON object, on one line unless indented; safe to show on a terminal."""
    text = json.dumps(dict(fields), ensure_ascii=ascii_only, indent=indent)
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
