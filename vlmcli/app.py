"""The table of commands, and `main`: arguments in, exit code out."""

import errno
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.completion import completion_init

from vlmcli import __version__, interrupts
from vlmcli.commands.groups import LazyGroup, group_of
from vlmcli.errors import ExitCode, OutputError, UsageError, VlmError, as_bug

# Name -> module and one line of help, so that `vlm --help` imports no command.
COMMANDS = {
    "caption": ("vlmcli.commands.caption", "One caption for each picture."),
    "ask": ("vlmcli.commands.ask", "Answer a question about one picture, or several together."),
    "video": ("vlmcli.commands.video", "Describe a clip, or answer a question about it."),
    "chat": ("vlmcli.commands.chat", "Talk about pictures; more can join at any turn."),
    "grep": ("vlmcli.commands.grep", "Print the pictures of which a statement is true."),
    "compare": ("vlmcli.commands.compare", "Ask several models the same, side by side."),
    "replay": ("vlmcli.commands.replay", "Repeat answers from their JSON records."),
    "prompts": ("vlmcli.commands.prompts", "Save prompts under names, for -T."),
    "models": ("vlmcli.commands.models", "The models on this machine: list, fetch, show, remove."),
    "doctor": ("vlmcli.commands.doctor", "Say what works on this machine and what does not."),
}

# Typer keeps its click to itself; the base of what it raises for a wrong command line is reached
# through the one class that it exports.
TyperUsageError: type[Any] = typer.BadParameter.__base__  # type: ignore[assignment]


class ReaderGoneError(Exception):
    """Whoever reads our stdout has closed it, as `| head -1` does."""


class Commands(LazyGroup):
    """All commands."""

    table = COMMANDS

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # Typer would end the process with 1; a reader that has seen enough is no failure.
            raise ReaderGoneError from error


def _vlm(
    version: Annotated[
        bool, typer.Option("-V", "--version", help="Show the version and exit.")
    ] = False,
) -> None:
    """Ask vision-language models about pictures.

    Example: vlm ask chart.png "highest bar?"
    """


app = group_of(_vlm, Commands)


def main(argv: Sequence[str]) -> int:
    """Run one command line; everything that goes wrong becomes one line on stderr and a code."""
    if "_VLM_COMPLETE" in os.environ:  # a shell asks what can come next
        completion_init()
    try:
        result = _run(list(argv) or ["--help"])
        sys.stdout.flush()
        return result
    except VlmError as error:
        return _failed(error)
    except TyperUsageError as error:
        where = error.ctx.command_path if error.ctx else "vlm"
        return _failed(UsageError(error.format_message(), hint=f"see {where} --help"))
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except (ReaderGoneError, BrokenPipeError):
        _abandon_stdout()
        return ExitCode.OK
    except OSError as error:
        if error.errno != errno.ENOSPC:
            return _bug(error)
        return _failed(OutputError("the answer cannot be written", hint="the disk is full"))
    except Exception as error:
        return _bug(error)


def _run(arguments: list[str]) -> int:
    if arguments in (["--version"], ["-V"]):
        print(f"vlm {__version__}")
        return ExitCode.OK
    try:
        result = app(args=arguments, prog_name="vlm", standalone_mode=False)
    except SystemExit as leaving:
        if "_VLM_COMPLETE" in os.environ:
            return int(leaving.code or 0)
        raise ReaderGoneError from leaving  # Typer's way to deal with a closed pipe
    return result if isinstance(result, int) else ExitCode.OK


def _abandon_stdout() -> None:
    """What is still in the buffer must not fail once more when Python ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _bug(error: Exception) -> int:
    """One line for the user, the traceback for us."""
    if os.environ.get("VLM_DEBUG"):
        raise error
    return _failed(as_bug(error))


def _failed(error: VlmError) -> int:
    from vlmcli import output

    if os.environ.get("VLM_DEBUG"):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, OutputError):
        _abandon_stdout()
    output.error(error)
    return error.exit_code


def run() -> None:
    """The console script. Dies of Ctrl-C as Unix programs do, so that a shell's loop ends too."""
    _open_closed_streams()
    if not os.environ.get("VLM_DEBUG"):
        warnings.simplefilter("ignore")  # what libraries tell programmers is not for users
    code = main(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    if code == ExitCode.INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    if not interrupts.all_idle():
        # A model may still be at its next token: torch aborts if Python is taken down around it.
        os._exit(code)
    sys.exit(code)


def _open_closed_streams() -> None:
    """Streams that were closed before we began (`>&-`) lead nowhere, and to no file of ours."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            setattr(sys, name, os.fdopen(number, mode))
