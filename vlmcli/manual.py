"""The manual page, made from the app; a copy stands in completions/ and is installed with vlm.

python -m vlmcli.manual FOLDER     writes vlm.1 anew
"""

import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from typer.main import get_command

from vlmcli import __version__
from vlmcli.app import app
from vlmcli.commands.options import app_of
from vlmcli.errors import ExitCode
from vlmcli.settings import TABLE

FILE = "vlm.1"
_WIDTH = 72  # of lines of text; those of one paragraph are joined again when it is shown

_DESCRIPTION = """
vlm asks vision-language models about pictures. Name a picture, ask a question, and a model answers
in the terminal, on whichever accelerator is there.

The answer is on stdout and nothing else is; progress, warnings and errors go to stderr. Pictures
are paths, folders, globs, http(s):// and data: URLs, - (stdin) and clip: (the clipboard); a page of
a PDF is FILE#page=N. Nothing leaves the machine but the download of a model, and a URL that was
named.
"""
_SETTINGS = """
Each of these is a flag of the commands that name it above, a variable of the environment, and a
line of config.toml, where its name is that of the variable without VLM_ and in lower case. A flag
goes before the variable, and the variable before the file.
"""
_EXIT_STATUS: Mapping[ExitCode, str] = {
    ExitCode.OK: "Done; for vlm grep, something was found.",
    ExitCode.NEGATIVE: "vlm grep found nothing; a text of vlm replay is not the same.",
    ExitCode.USAGE: "Usage: a flag or value is wrong.",
    ExitCode.INPUT: "An input is missing, unreadable or too large, or an answer is not in the form"
    " that was asked for (of many: some failed, the rest are done).",
    ExitCode.MODEL: "The model: unknown, gated, offline, incomplete, damaged, or unfit for this.",
    ExitCode.DEVICE: "The device: none such, or out of memory.",
    ExitCode.BUG: "A bug: VLM_DEBUG=1 shows where.",
    ExitCode.OUTPUT: "The answer cannot be written: the disk is full.",
    ExitCode.INTERRUPTED: "Ctrl-C.",
}
_ENVIRONMENT = {
    "VLM_CONFIG": "The configuration file, in place of the usual one; saved prompts are beside it.",
    "VLM_CACHE_DIR": "The folder of what vlm can make again, in place of the usual one.",
    "VLM_DATA": "The folder of kept conversations, in place of the usual one.",
    "VLM_DEBUG": "If set, an error shows where in the program it comes from.",
    "HF_HOME, HF_HUB_CACHE": "Where models are cached, for all Hugging Face programs.",
    "HF_TOKEN": "The token for gated models.",
    "HF_ENDPOINT": "The Hub to ask, in place of huggingface.co.",
    "HF_HUB_OFFLINE": "If 1, the Hub is asked nothing, as with --offline.",
    "HTTPS_PROXY, SSL_CERT_FILE": "The way to the Hub and to URLs.",
    "NO_COLOR": "If set, no colours.",
    "VISUAL, EDITOR": "What Ctrl-G opens in vlm chat.",
}
_FILES = {
    "~/.config/vlm/config.toml": "Settings and short names of models (on Linux; vlm models default"
    " and vlm models alias write it).",
    "~/.config/vlm/prompts": "Saved prompts, for -T (on Linux; vlm prompts save writes them).",
    "~/.local/share/vlm": "Kept conversations (on Linux).",
    "~/.cache/vlm/features": "What models saw in pictures (on Linux); it can be removed.",
    "~/.cache/huggingface/hub": "Models.",
}
_EXAMPLES = """
vlm ask chart.png "highest bar?"
vlm ask before.png after.png "what changed?"
vlm caption -r ~/Pictures > captions.tsv
vlm caption -r photos --json | jq -r '[.file, .text] | @tsv'
vlm grep -r0 "a receipt" photos | xargs -0 -I {} mv {} receipts/
if vlm grep -q "a parcel" door.jpg; then notify-send "A parcel"; fi
vlm video talk.mp4 "what is on the slide?" --every 10s --srt -o talk.srt
"""


def page() -> str:
    """The whole page, in the man macros of roff, in ASCII."""
    found = list(commands(get_command(app), "vlm"))
    lines = [
        r".\" Made by: python -m vlmcli.manual completions",
        f'.TH VLM 1 "" "vlm {__version__}" "User Commands"',
        ".ad l",
        ".nr HY 0",  # groff's name for: break no words, of which some are to be typed
        ".SH NAME",
        r"vlm \- ask vision\-language models about pictures from the shell",
        ".SH SYNOPSIS",
        *_usages(found),
        ".SH DESCRIPTION",
        *_text(_DESCRIPTION),
        ".SH COMMANDS",
        *(line for path, command, context in found for line in _section(path, command, context)),
        ".SH SETTINGS",
        *_text(_SETTINGS),
        *_settings(found[0][2]),
        ".SH EXIT STATUS",
        *(line for code in ExitCode for line in _tagged(f"{code:d}", _EXIT_STATUS[code])),
        ".SH ENVIRONMENT",
        *_text("The variable of each setting stands with it above."),
        *(line for name, what in _ENVIRONMENT.items() for line in _tagged(name, what)),
        ".SH FILES",
        *(line for name, what in _FILES.items() for line in _tagged(name, what)),
        ".SH EXAMPLES",
        *_literal(_EXAMPLES.strip().splitlines()),
        ".SH SEE ALSO",
        r"\fBgrep\fR(1), \fBjq\fR(1), \fBxargs\fR(1)",
    ]
    return "\n".join(lines) + "\n"


def write(folder: Path) -> None:
    """Write the page into `folder`."""
    (folder / FILE).write_text(page(), encoding="ascii")


# What the app says


def commands(group: Any, path: str, above: Any = None) -> Iterator[tuple[str, Any, Any]]:
    """The path, the command and its context, of each command and of those below it."""
    context = above or group.make_context(path, [], resilient_parsing=True)
    for listed in group.list_commands(context):
        name, command, _ = group.resolve_command(context, [listed])
        own = type(context)(command, parent=context, info_name=name)
        yield f"{path} {name}", command, own
        if hasattr(command, "list_commands"):
            yield from commands(command, f"{path} {name}", own)


def _usages(found: Iterable[tuple[str, Any, Any]]) -> Iterator[str]:
    for path, command, context in found:
        pieces = " ".join(command.collect_usage_pieces(context))
        yield f"{_bold(path)} {_escaped(pieces)}"
        yield ".br"
    yield rf"{_bold('vlm')} \-\-help | \-\-version"


def _section(path: str, command: Any, context: Any) -> Iterator[str]:
    """What a command does, its own arguments and options, and which of the settings it takes."""
    yield f".SS {_escaped(path)}"
    *paragraphs, example = (command.help or "").split("\n\nExample: ")
    yield from _text("\n\n".join(paragraphs))
    usual = {p.name: p.opts for p in _setting_parameters()}
    settings = []
    for parameter in command.get_params(context):
        if parameter.name in usual and parameter.opts == usual[parameter.name]:
            settings.append(parameter)
        elif parameter.name != "help":
            yield from _described(parameter, context)
    if settings:
        flags = ", ".join(next(o for o in p.opts if o.startswith("--")) for p in settings)
        every = len(settings) == len(usual)
        yield ".PP"
        yield from _text("All the SETTINGS below." if every else f"Of the SETTINGS below: {flags}.")
    yield ".PP"
    yield from _literal([example.strip()])


def _settings(context: Any) -> Iterator[str]:
    panel = ""
    for parameter in _setting_parameters():
        if parameter.rich_help_panel != panel:
            panel = parameter.rich_help_panel
            yield f".SS {panel}"
        yield from _described(parameter, context, f"(VLM_{parameter.name.upper()})")


def _setting_parameters() -> list[Any]:
    def nothing(*, flags: Mapping[str, object]) -> None: ...

    return [p for p in get_command(app_of(nothing)).params if p.name in TABLE]


def _described(parameter: Any, context: Any, variable: str = "") -> Iterator[str]:
    """A parameter and its help, with its default."""
    if parameter.param_type_name == "argument":
        # A bracket may close only after the next one: [SHORT [NAME]]
        metavar = parameter.metavar
        name = metavar[1:].rstrip("]") if metavar.startswith("[") else metavar
        tag = rf"\fI{_escaped(name)}\fR"
    else:
        flags = sorted(parameter.opts, key=lambda flag: flag.startswith("--"))
        tag = ", ".join(_bold(flag) for flag in flags)
        tag += "".join(f" / {_bold(flag)}" for flag in parameter.secondary_opts)
        if not parameter.is_flag:
            joint = "" if (parameter.metavar or "").startswith("[=") else " "
            tag += rf"{joint}\fI{_escaped(parameter.metavar or 'TEXT')}\fR"
    words = " ".join(parameter.get_help_record(context)[1].split())
    yield from _tag(tag, f"{words.removesuffix(' [required]')} {variable}".strip())


# roff


def _text(text: str) -> Iterator[str]:
    """Paragraphs, which blank lines part."""
    for number, paragraph in enumerate(text.strip().split("\n\n")):
        if number:
            yield ".PP"
        yield from _wrapped(paragraph)


def _tagged(tag: str, text: str) -> Iterator[str]:
    return _tag(_bold(tag), text)


def _tag(tag: str, text: str) -> Iterator[str]:
    yield ".TP"
    yield tag
    yield from _wrapped(text)


def _literal(lines: Iterable[str]) -> Iterator[str]:
    """Lines that are shown as they are, indented."""
    yield ".RS 4"
    yield ".EX"
    yield from (_line(line) for line in lines)
    yield ".EE"
    yield ".RE"


def _wrapped(text: str) -> Iterator[str]:
    whole = textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
    return (_line(line) for line in whole)


def _bold(text: str) -> str:
    return rf"\fB{_escaped(text)}\fR"


def _line(text: str) -> str:
    """A line of text that is no request, whatever it begins with."""
    return rf"\&{_escaped(text)}" if text.startswith((".", "'")) else _escaped(text)


_NAMED = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}


def _escaped(text: str) -> str:
    """Text whose characters all stand for themselves, written in ASCII."""
    return "".join(_NAMED.get(c) or (c if c.isascii() else rf"\[u{ord(c):04X}]") for c in text)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
