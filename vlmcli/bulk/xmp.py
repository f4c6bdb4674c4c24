"""A description in an XMP sidecar, the packet that photo programs keep beside a picture.

https://developer.adobe.com/xmp/docs/xmp-specifications/
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_DC = "http://purl.org/dc/elements/1.1/"
_RDF_ROOT = f"{_RDF} RDF"
_DESCRIPTION = f"{_DC} description"
_LANGUAGE = "http://www.w3.org/XML/1998/namespace lang"
_WAY = (_RDF_ROOT, f"{_RDF} Description", _DESCRIPTION, f"{_RDF} Alt", f"{_RDF} li")
_KINDS = {
    _WAY[:2]: "resource",
    _WAY[:3]: "description",
    _WAY[:4]: "languages",
    _WAY: "item",
}  # fmt: skip
_TAG = re.compile(rb"""</?([^\s/>]+)(?:[^"'>]|"[^"]*"|'[^']*')*>""")
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PACKET = """\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="">
   {description}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""


def packet(text: str) -> bytes:
    """A packet that says nothing but the description."""
    return _PACKET.format(description=_description(text)).encode()


def described(data: bytes, text: str) -> bytes:
    """A packet with another description; every other byte of it stays as it is.

    That is the one for every language: what it says in other languages stays. Raises ValueError if
    `data` is no packet that can be read.
    """
    found = _places(data)
    if tag := found.get("item"):
        return data[: tag.start] + _item(text).encode() + data[tag.end :]
    if tag := found.get("languages"):
        return tag.with_child(data, _item(text))
    if tag := found.get("description"):
        return data[: tag.start] + _description(text).encode() + data[tag.end :]
    if tag := found.get("resource"):
        return tag.with_child(data, _description(text))
    raise ValueError("it describes no picture")


@dataclass(frozen=True, slots=True)
class Element:
    """Where an element begins and ends in a file, and its name as it stands there.

    `content` is where its start tag ends.
    """

    start: int
    content: int
    end: int
    name: bytes

    def with_child(self, data: bytes, child: str) -> bytes:
        """The file with one more child in the element, before the others."""
        before, after = data[: self.content], data[self.content :]
        if self.content < self.end:
            return before + child.encode() + after
        opened = before.removesuffix(b"/>") + b">"  # it was <name/>
        return opened + child.encode() + b"</" + self.name + b">" + after


def _places(data: bytes) -> dict[str, Element]:
    """The first element of each kind that has to do with the description."""
    parser = expat.ParserCreate(encoding="UTF-8", namespace_separator=" ")
    found: dict[str, Element] = {}
    path: list[str] = []
    begun: list[tuple[int, str]] = []  # where each open element begins, and its kind

    def start(name: str, attributes: Mapping[str, str]) -> None:
        if _DESCRIPTION in attributes:
            raise ValueError("its description is an attribute, which XMP has no room for")
        path.append(name)
        kind = _KINDS.get(tuple(path[path.index(_RDF_ROOT) :]) if _RDF_ROOT in path else (), "")
        if kind == "item" and attributes.get(_LANGUAGE) != "x-default":
            kind = ""
        begun.append((parser.CurrentByteIndex, kind))

    def end(_: str) -> None:
        path.pop()
        at, kind = begun.pop()
        tag = _TAG.match(data, at)
        if kind and kind not in found and tag:
            closing = None if tag[0].endswith(b"/>") else _TAG.match(data, parser.CurrentByteIndex)
            found[kind] = Element(at, tag.end(), (closing or tag).end(), tag[1])

    parser.StartElementHandler, parser.EndElementHandler = start, end
    try:
        data.decode()  # expat would make something of UTF-16 too, and count its bytes
        parser.Parse(data, True)
    except (UnicodeDecodeError, expat.ExpatError) as error:
        raise ValueError(f"it is no XML in UTF-8: {error}") from error
    return found


def _description(text: str) -> str:
    alternatives = f"<rdf:Alt xmlns:rdf={quoteattr(_RDF)}>{_item(text)}</rdf:Alt>"
    return f"<dc:description xmlns:dc={quoteattr(_DC)}>{alternatives}</dc:description>"


def _item(text: str) -> str:
    words = escape(_NOT_XML.sub("\ufffd", text), {"\r": "&#13;"})
    return f'<rdf:li xmlns:rdf={quoteattr(_RDF)} xml:lang="x-default">{words}</rdf:li>'
