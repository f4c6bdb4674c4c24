"""What the tests of chats share: a model that tells what it was shown, and chats in a terminal."""

import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import terminal
from terminal import Terminal

from vlmcli.backends import Engine, ImagePreview, Preview
from vlmcli.errors import ModelError
from vlmcli.messages import Chunk, Delta, Done, Message, Sampling, Text, Thought, seen_of
from vlmcli.settings import Settings

PICTURE_TOKENS = 50
SLOW = [f"word{n} " for n in range(200)]
CODE = "Look:\n\n```python\nprint(42)  # **stars**\n```\n\n- one\n- **two**\n"
HOSTILE = "plain \x1b]52;c;aGFjaw==\x07 \x1b[31mred \x9b2J \u202edrow [bold]no markup[/bold] [/b]"


def tokens_of(conversation: Sequence[Message]) -> int:
    """One a word, four for the template, and some for each picture."""
    words = sum(len(text.split()) for message in conversation for text in message.texts)
    return words + 4 + PICTURE_TOKENS * len(seen_of(conversation))


def told(conversation: Sequence[Message]) -> str:
    """All that a model is given, on one line: U: [photo.png] what? A: …"""
    names = {"system": "S", "user": "U", "assistant": "A"}
    return " ".join(
        f"{names[message.role]}: {' '.join(_said(message))}".strip() for message in conversation
    )


def _said(message: Message) -> Iterator[str]:
    for part in message.content:
        yield " ".join(part.text.split()) if isinstance(part, Text) else f"[{Path(part.name).name}]"


@dataclass
class Talker:
    """Answers what it was given, unless the question has a word that it knows, and remembers.

    `context_tokens` and `preview` are those of an Engine. `broken` is raised when a model of that
    name is loaded. Not made of conftest's FakeEngine: all of that takes a program long to import.
    """

    calls: list[tuple[Sequence[Message], Sampling]] = field(default_factory=list)
    loads: list[Settings] = field(default_factory=list)
    context_tokens: int | None = None
    broken: Mapping[str, Exception] = field(default_factory=dict)
    pause_s: float = 0.0

    def load(self, settings: Settings) -> Engine:
        if settings.model in self.broken:
            raise self.broken[settings.model]
        self.loads.append(settings)
        return Engine(
            model="fake" if settings.model == "auto" else settings.model,
            device="cpu",
            dtype="float32",
            generate=self.generate,
            preview=self.preview,
            context_tokens=self.context_tokens,
        )

    def preview(self, conversation: Sequence[Message]) -> Preview:
        seen = tuple(
            ImagePreview(one.name, (one.width, one.height), None, None, PICTURE_TOKENS)
            for one in seen_of(conversation)
        )
        return Preview("", tokens_of(conversation), seen)

    def generate(self, conversation: Sequence[Message], sampling: Sampling) -> Iterator[Chunk]:
        self.calls.append((conversation, sampling))
        question = conversation[-1].texts[-1]
        if "fail" in question:
            raise ModelError("the model cannot do that", hint="ask something else")
        if "bug" in question:
            raise ZeroDivisionError("by nought")
        if "ponder" in question:
            yield Thought("it may be a cat")
        known = {"slow": SLOW, "code": [CODE], "hostile": [*HOSTILE]}
        pieces = next((known[word] for word in known if word in question), None)
        for piece in pieces or [f"heard {told(conversation)}"]:
            yield Delta(piece)
            time.sleep(self.pause_s)
        yield Done("stop", tokens_of(conversation), 0, len(pieces or "1"), 0.5, 1.0)


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from chats_here import Talker
from vlmcli import backends
from vlmcli.app import run

backends.load = Talker(pause_s={pause_s}, context_tokens=8192).load
run()
"""


def fake_vlm(*arguments: object, pause_s: float = 0.0) -> list[str]:
    """The command line of a `vlm` that is answered by a Talker."""
    script = SCRIPT.format(tests=str(Path(__file__).parent), pause_s=pause_s)
    return [sys.executable, "-c", script, *map(str, arguments)]


@dataclass(slots=True)
class Chat:
    """`vlm chat` on a terminal."""

    terminal: Terminal
    _from: int = 0

    def type(self, text: str) -> None:
        self.terminal.send(text.encode())

    def say(self, line: str) -> None:
        self.type(f"{line}\r")

    def until(self, text: str, timeout_s: float = 90.0) -> None:
        """Wait for a text behind the one that was waited for last; escapes between do not count."""
        deadline_s = time.monotonic() + timeout_s
        pattern = re.compile(_ESCAPES.join(map(re.escape, text)))
        while (found := pattern.search(self.terminal.text, self._from)) is None:
            if not self.terminal._read(deadline_s):
                raise self.terminal._stuck(f"no {text!r}")
        self._from = found.end()

    def prompted(self) -> None:
        """Wait for the next line to be asked for."""
        self.until("> ")

    def screen(self) -> str:
        return "\n".join(self.terminal.screen())

    def leave(self) -> int:
        self.terminal.send(b"\x04")
        return self.terminal.wait(90)


_ESCAPES = r"(?:\x1b\[[\d;?]*[@-~]|\r?\n(?=\x1b))*"


def chat(
    *arguments: object,
    env: Mapping[str, str] | None = None,
    pause_s: float = 0.0,
    columns: int = 200,
    rows: int = 40,
    stdout: int | None = None,
    command: Sequence[str] | None = None,
) -> Chat:
    """Begin a chat on a terminal; no editor of the developer's comes into it."""
    plain = {"VISUAL": "", "EDITOR": "", "COLORTERM": ""}
    return Chat(
        terminal.spawn(
            ["env", "-u", "TMUX", *(command or fake_vlm("chat", *arguments, pause_s=pause_s))],
            env=plain | dict(env or {}),
            columns=columns,
            rows=rows,
            stdout=stdout,
        )
    )
