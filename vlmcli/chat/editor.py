"""The line that is typed on a terminal: history, completion, several lines, an editor.

The only room with prompt_toolkit. All of it is drawn on stderr: stdout is the answers.
"""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.lexers import Lexer
from prompt_toolkit.output import ColorDepth, create_output
from prompt_toolkit.shortcuts import CompleteStyle
from prompt_toolkit.styles import Style

from vlmcli import output
from vlmcli.chat import completing, lines, store
from vlmcli.errors import OutputError

_STYLE = Style.from_dict(
    {"prompt": "ansicyan bold", "attached": "ansicyan underline", "bottom-toolbar": "noreverse dim"}
)
_EDITORS = ("editor", "nano", "vi")


class Editor:
    """Reads what is typed. `status` is asked at every key what the line below says of the text."""

    def __init__(self, status: Callable[[str], str]) -> None:
        self._status = status
        self._session: PromptSession[str] = PromptSession(
            message=[("class:prompt", "> ")],
            prompt_continuation=_continued,
            history=_history(),
            completer=_Tab(),
            complete_while_typing=False,
            complete_style=CompleteStyle.READLINE_LIKE,
            lexer=_Attached(),
            key_bindings=_keys(),
            bottom_toolbar=self._toolbar,
            style=_STYLE,
            output=create_output(sys.stderr),
            color_depth=ColorDepth.DEPTH_1_BIT if os.environ.get("NO_COLOR") else None,
            enable_suspend=True,
        )

    def read(self) -> str | None:
        """What was typed; None for Ctrl-D. Raises KeyboardInterrupt for Ctrl-C."""
        try:
            return self._session.prompt()
        except EOFError:
            return None

    def _toolbar(self) -> StyleAndTextTuples:
        return [("", output.clean(self._status(self._session.default_buffer.text)))]


def _continued(width: int, line: int, wrapped: int) -> StyleAndTextTuples:
    return [] if wrapped else [("class:prompt", "… ")]


class _Tab(Completer):
    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        for offer in completing.offers(document.text_before_cursor):
            shown = output.clean(offer.shown or offer.text)
            yield Completion(offer.text, -offer.replaced, display=shown)


class _Attached(Lexer):
    """Shows which parts of the line are not words but things to look at."""

    def lex_document(self, document: Document) -> Callable[[int], StyleAndTextTuples]:
        text = document.text
        marked = [] if text.startswith("/") else [(n.start, n.end) for n in lines.found_in(text)]

        def lexed(number: int) -> StyleAndTextTuples:
            start = document.translate_row_col_to_index(number, 0)
            return [
                ("class:attached" if any(a <= start + n < b for a, b in marked) else "", character)
                for n, character in enumerate(document.lines[number])
            ]

        return lexed


class _Typed(FileHistory):
    """What was typed, for the user alone; a disk that is full takes no line away."""

    def store_string(self, string: str) -> None:
        with suppress(OSError):
            super().store_string(string)


def _history() -> History:
    try:
        file = store.private_folder(store.folder()) / "chat-history"
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600))
    except (OSError, OutputError) as error:
        output.warn(f"typed lines are not kept: {error}")
        return InMemoryHistory()
    return _Typed(str(file))


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @Condition
    def is_open() -> bool:
        return lines.is_open(keys_buffer_text())

    def keys_buffer_text() -> str:
        from prompt_toolkit.application import get_app

        return get_app().current_buffer.text

    @keys.add(Keys.Enter, filter=is_open)
    @keys.add(Keys.Escape, Keys.Enter)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    @keys.add(Keys.ControlG)
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer

        async def edit() -> None:
            text = await run_in_terminal(lambda: edited(buffer.text), in_executor=True)
            if text is not None:
                buffer.document = Document(text, len(text))

        event.app.create_background_task(edit())

    return keys


def edited(text: str) -> str | None:
    """The text as it is after the user's own editor; None if that did not work, which is said."""
    handle, name = tempfile.mkstemp(prefix="vlm-", suffix=".md")
    path = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
        for editor in (os.environ.get("VISUAL"), os.environ.get("EDITOR"), *_EDITORS):
            if not editor:
                continue
            with suppress(FileNotFoundError):
                if code := subprocess.call([*shlex.split(editor), name]):
                    output.warn(f"{editor} ended with {code}; the line stays as it was")
                    return None
                return path.read_text(encoding="utf-8", errors="replace").rstrip("\n")
        output.warn("no editor was found; EDITOR names one")
    except (OSError, ValueError) as error:  # a place without room, quotes in EDITOR that stay open
        output.warn(f"the editor cannot be run: {error}")
    finally:
        path.unlink(missing_ok=True)
    return None
