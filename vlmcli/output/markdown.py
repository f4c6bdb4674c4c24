"""Markdown to terminal lines, a block at a time.

A model's text is data. Raw HTML, pictures, reference definitions and the targets of links are
shown, not hidden; a model's line breaks stay, because a receipt is not a paragraph; no entity
turns into a control character, and no hyperlink leads elsewhere than it says.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import ListItem, Markdown, TableElement
from rich.table import Table
from rich.text import Text

from vlmcli.output.text import clean

_PARSER = (
    MarkdownIt("commonmark", {"html": False})
    .enable(["table", "strikethrough"])
    .disable("reference")
)
_BLOCK_PARSER = (  # the same blocks, without the words in them: several times faster
    MarkdownIt("commonmark", {"html": False})
    .enable("table")
    .disable(["reference", "inline", "text_join"])
)
_STYLES = re.compile(r"\x1b\[[\d;]*m")
_UNDECIDED = re.compile(r"[\s\d\-=*+#>`~|:.)]*")


@dataclass(frozen=True, slots=True)
class Block:
    """The source of one top-level block, or of one item of a top-level list.

    `apart`: a blank line stands before it.
    """

    source: str
    apart: bool


def split(source: str, *, apart: bool) -> list[Block]:
    """The blocks of `source` in order; only the last one can still change when more text comes.

    That holds if `source` ends with a newline: half a line may yet become anything.
    `apart` is for the first block, which may go on with a list that was cut before it.
    """
    starts: list[tuple[int, bool]] = []
    in_list = False
    for token in _BLOCK_PARSER.parse(source):
        if token.level == 0:
            in_list = False
        is_list = token.type in ("bullet_list_open", "ordered_list_open")
        is_item = token.type == "list_item_open" and token.level == 1
        if token.map and (is_item or (token.level == 0 and not is_list)):
            starts.append((token.map[0], not in_list if starts else apart))
            in_list = is_item
    lines = source.split("\n")
    ends = [line for line, _ in starts[1:]] + [len(lines)]
    return [
        Block("\n".join(lines[start:end]) + ("\n" if end < len(lines) else ""), blank_before)
        for (start, blank_before), end in zip(starts, ends, strict=False)
    ]


def preview(source: str, rows: int) -> str:
    """Enough of an unfinished `source` to draw its last `rows` lines at a cost that never grows.

    Keeps the first two lines, which say what the block is (a fence, a table's head), and drops half
    a line that is only punctuation so far: "-" may become a heading, a list or a table.
    """
    head, newline, last = source.rpartition("\n")
    if _UNDECIDED.fullmatch(last):
        source = head + newline
    lines = source.split("\n")
    return "\n".join(lines[:2] + lines[2:][-2 * rows :])


def render(source: str, console: Console) -> list[str]:
    """The lines of one block, with their styles; none if nothing in it can be seen yet."""
    document = _Document("")
    document.parsed = list(_shown_as_written(_PARSER.parse(source)))
    return _lines(document, console)


def render_finished(source: str, console: Console) -> list[str]:
    """As `render`; Markdown that shows nothing ("7." is an empty list) stays as it is written."""
    return render(source, console) or _lines(Text(source), console)


def _lines(renderable: Markdown | Text, console: Console) -> list[str]:
    """Without blank lines at both ends and blanks at the ends of lines."""
    with console.capture() as captured:
        console.print(renderable)
    lines = [line.rstrip() for line in captured.get().split("\n")]
    visible = [at for at, line in enumerate(lines) if _STYLES.sub("", line).strip()]
    return lines[visible[0] : visible[-1] + 1] if visible else []


def _shown_as_written(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        token.content = clean(token.content)  # an entity may have become a control character
        if token.children:
            token.children = list(_inlines_as_written(token.children))
        yield token


def _inlines_as_written(tokens: list[Token]) -> Iterator[Token]:
    address, words = "", ""
    for token in tokens:
        token.content = clean(token.content)
        words += token.content
        if token.type == "softbreak":
            token.type = "hardbreak"
        elif token.type == "image":
            yield _text(f"![{token.content}]({token.attrs['src']})")
            continue
        elif token.type == "link_open":
            address, words = str(token.attrs["href"]), ""
            continue
        elif token.type == "link_close":
            if address not in (words, f"mailto:{words}"):
                yield _text(f" ({address})")
            continue
        yield token


def _text(words: str) -> Token:
    return Token("text", "", 0, content=clean(words))


class _Table(TableElement):
    """A table that folds long words instead of cutting them."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for table in super().__rich_console__(console, options):
            if isinstance(table, Table):
                for column in table.columns:
                    column.overflow = "fold"
            yield table


class _Item(ListItem):
    """A numbered item with room for two digits, as its list is drawn before its length is known."""

    def render_number(
        self, console: Console, options: ConsoleOptions, number: int, last_number: int
    ) -> RenderResult:
        yield from super().render_number(console, options, number, max(last_number, 10))


class _Document(Markdown):
    elements = {**Markdown.elements, "table_open": _Table, "list_item_open": _Item}
