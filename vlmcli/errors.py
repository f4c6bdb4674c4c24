"""Everything that can go wrong on purpose, each kind with its exit code.

VlmError
├── UsageError      2  a flag or a value is wrong
├── InputError      3  a picture, a file or a URL is missing, unreadable or too large
│   └── AnswerError    what was answered about it is not in the form that was asked for
├── ModelError      4  the model is unknown, gated, offline, incomplete, or cannot do what is asked
├── DeviceError     5  no such accelerator, or out of memory
└── OutputError    74  the answer cannot be written: a full disk

`app.main` catches them, once, and prints one line. Anything else that escapes is a bug (exit 70).
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What `vlm` tells the shell."""

    OK = 0
    NEGATIVE = 1  # as grep and diff say it: nothing found, something differs; no error
    USAGE = 2
    INPUT = 3
    MODEL = 4
    DEVICE = 5
    BUG = 70
    OUTPUT = 74  # as in BSD's sysexits.h, where 70 is from too
    INTERRUPTED = 130


class VlmError(Exception):
    """Says what went wrong with which value (`message`), and what to do next (`hint`)."""

    exit_code = ExitCode.BUG

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class UsageError(VlmError):
    """The command line, an environment variable or the configuration file says something wrong."""

    exit_code = ExitCode.USAGE


class InputError(VlmError):
    """Something that was named as input cannot be used."""

    exit_code = ExitCode.INPUT


class AnswerError(InputError):
    """The answer about an input is of no use; that about the next one may be."""


class ModelError(VlmError):
    """The model cannot be found, loaded, or asked this."""

    exit_code = ExitCode.MODEL


class DeviceError(VlmError):
    """The accelerator or the memory does not allow it."""

    exit_code = ExitCode.DEVICE


class OutputError(VlmError):
    """What was asked for is there, and there is no room to write it."""

    exit_code = ExitCode.OUTPUT


def as_bug(error: Exception) -> VlmError:
    """What the user is told of an error that nobody meant: one line, and how to see the rest."""
    reason = f"{type(error).__name__}: {error}"[:300]
    return VlmError(f"a bug: {reason}", hint="VLM_DEBUG=1 shows where")


def shown(name: str) -> str:
    """A name as a message shows it: on one line, the middle left out if it is long."""
    if name == "-":
        return "stdin"
    if name == "clip:":
        return "the clipboard"
    most = 60 if name[:5].lower() == "data:" else 200
    short = name if len(name) <= most else f"{name[: most // 2]}…{name[-(most // 2 - 1) :]}"
    return "".join(c if c.isprintable() else "�" for c in short)
