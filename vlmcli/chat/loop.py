"""The chat itself: line after line, from a terminal or from a pipe, until there are no more."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from vlmcli import output, sources
from vlmcli.chat import attaching, lines, slash
from vlmcli.chat.session import Session
from vlmcli.errors import ExitCode, InputError, VlmError, as_bug, shown
from vlmcli.output.terminal import console, write


def take(session: Session, text: str) -> None:
    """Do what a line says: a command, something to look at, a question. Raises VlmError."""
    text = text.strip()
    if not text:
        return
    if (command := slash.parse(text)) is not None:
        command[0].run(session, command[1])
        return
    line = lines.read(lines.unquoted(text))
    _attach(session, line.arguments)
    if line.words:
        session.ask(line.words)


def _attach(session: Session, arguments: Sequence[str]) -> None:
    """Stage all that is named, or nothing of it. Raises VlmError."""
    if not arguments:
        return
    session.unseen = ", ".join(map(shown, arguments))
    look = partial(attaching.looked_at, settings=session.settings, engine=session.engine)
    try:
        seen = [one for argument in arguments for one in look(argument)]
    except InputError as error:
        hint = f"{error.hint}; in `backquotes` it is only words".removeprefix("; ")
        raise InputError(error.message, hint=hint) from error
    session.stage([one for one in seen if not session.knows(one)])


def _guarded(session: Session, text: str) -> int:
    """Take a line; what goes wrong with it is said, and its exit code returned."""
    try:
        take(session, text)
    except BrokenPipeError:
        raise
    except VlmError as error:
        output.error(error)
        return error.exit_code
    except Exception as error:  # of the model, of a library: the chat is worth more
        if os.environ.get("VLM_DEBUG"):
            raise
        output.error(as_bug(error))
        return ExitCode.BUG
    return ExitCode.OK


def on_terminal(session: Session) -> None:
    """Talk until Ctrl-D. Ctrl-C ends what is under way, or clears the line."""
    reader = _reader(session)
    while not session.over:
        session.unseen = ""  # whoever types has read that it is missing
        try:
            text = reader.read()
            if text is None:
                return
            with unechoed():
                _guarded(session, text)
            write(sys.stderr, "\n")
        except KeyboardInterrupt:
            continue


@contextmanager
def unechoed() -> Iterator[None]:
    """What is typed meanwhile is not shown in the middle of an answer; it comes with the next line.

    Ctrl-C works as ever.
    """
    try:
        import termios

        keyboard = sys.stdin.fileno()
        before = termios.tcgetattr(keyboard)
    except (ImportError, OSError, ValueError, termios.error):  # Windows; no terminal
        yield
        return
    quiet = [*before]
    quiet[3] &= ~termios.ECHO  # the local modes
    termios.tcsetattr(keyboard, termios.TCSANOW, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSANOW, before)


def on_lines(session: Session) -> int:
    """One turn a line of stdin, to the end; the exit code is that of the first line to fail."""
    code = 0
    for text in _joined(_decoded(sources.stdin())):
        failed = _guarded(session, text)
        code = code or failed
        if session.stopped:
            raise KeyboardInterrupt
        if session.over:
            break
    return code


def _decoded(file: Iterable[bytes]) -> Iterator[str]:
    """Lines without their ends; what is not UTF-8 is found out when it is asked."""
    return (line.decode("utf-8", "surrogateescape").rstrip("\r\n") for line in file)


def _joined(typed: Iterable[str]) -> Iterator[str]:
    """The lines; those between three quotes are one."""
    waiting = ""
    for line in typed:
        text = waiting + line
        waiting = f"{text}\n" if lines.is_open(text) else ""
        if not waiting:
            yield text
    if waiting:
        yield waiting


class Reader(Protocol):
    """Where lines come from: `read` gives the next, or None if the user leaves."""

    def read(self) -> str | None: ...


class PlainReader:
    """For terminals that cannot be drawn on: the line as the terminal itself edits it."""

    def read(self) -> str | None:
        return next(_joined(_decoded(self._typed())), None)

    def _typed(self) -> Iterator[bytes]:
        while True:
            write(sys.stderr, "> ")
            if not (line := sys.stdin.buffer.readline()):
                write(sys.stderr, "\n")
                return
            yield line


def _reader(session: Session) -> Reader:
    if console(sys.stderr) is None:
        return PlainReader()
    from vlmcli.chat.editor import Editor

    return Editor(lambda text: _status(session, text))


def _status(session: Session, text: str) -> str:
    """Below the line: what the question will be about, before it is sent; else who answers."""
    names = [attaching.displayed(one.name) for one in session.talk.staged]
    if not text.startswith("/"):
        names += [attaching.displayed(named.argument) for named in lines.found_in(text)]
    return f"with {', '.join(names)}" if names else session.engine.label
