"""Saved prompts: plain text files beside config.toml, with $variables to be filled in.

Shell completion is made of this file, so it imports nothing that takes long.
"""

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from string import Template

from vlmcli import configfile, writing
from vlmcli.errors import InputError, OutputError, UsageError, shown

SUFFIXES = (".txt", ".md")
MOST_BYTES = 1_000_000
_NAME = re.compile(r"\w[\w.+-]{0,99}")
_LIST = "vlm prompts ls lists them"


def folder() -> Path:
    """Where the prompts are; there need not be such a folder."""
    return configfile.path().with_name("prompts")


def saved() -> dict[str, Path]:
    """The file of each saved prompt by its name, in order."""
    try:
        files = [file for file in folder().iterdir() if file.suffix in SUFFIXES]
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{folder()}: {_reason(error)}") from error
    # Of two files of one name the .txt comes last, and so it is the one.
    ranked = sorted(files, key=lambda file: (file.stem, -SUFFIXES.index(file.suffix)))
    return {file.stem: file for file in ranked if _NAME.fullmatch(file.stem)}


def find(name: str) -> Path:
    """The file of a saved prompt. Raises UsageError with the names most like it."""
    known = saved()
    if name in known:
        return known[name]
    stem = name.removesuffix(".txt").removesuffix(".md")
    near = [stem] if stem in known else difflib.get_close_matches(name, known, n=2)
    hint = f"did you mean {' or '.join(near)}?" if near else _LIST
    if not known:
        hint = f'vlm prompts save {stem if _NAME.fullmatch(stem) else "NAME"} "…" makes one'
    raise UsageError(f"no prompt is called {shown(name)!r}", hint=hint)


def read(name: str) -> str:
    """The text of a saved prompt, or of any file if the name is a path, such as ./x.txt.

    Raises UsageError if nothing is saved so, InputError if the file is no text.
    """
    return read_file(Path(name).expanduser() if _is_path(name) else find(name))


def read_file(file: Path) -> str:
    """The text in a file, without the white space around it. Raises InputError."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{shown(str(file))}: {_reason(error)}") from error
    if len(data) > MOST_BYTES:
        raise InputError(f"{shown(str(file))}: more than {MOST_BYTES} bytes are no prompt")
    try:
        return checked(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"{shown(str(file))}: not a text in UTF-8") from error
    except UsageError as error:
        raise InputError(f"{shown(str(file))}: {error.message}", hint=error.hint) from error


def save(name: str, text: str, *, force: bool) -> Path:
    """Put a prompt into its file, and say which; one that is there is replaced only by `force`.

    Raises UsageError, or OutputError if it cannot be written.
    """
    if not _NAME.fullmatch(name) or name.endswith(SUFFIXES):
        ending = ", and the .txt is added" if name.endswith(SUFFIXES) else ""
        raise UsageError(
            f"{shown(name)!r} is no name for a prompt",
            hint=f"letters, digits, and - _ . + after the first{ending}",
        )
    if text.encode(errors="replace").decode() != text:
        raise UsageError("the prompt is not valid UTF-8", hint="type it anew")
    known = saved()
    if name in known and not force:
        raise UsageError(f"there is a prompt called {name}", hint="--force replaces it")
    file = known.get(name, folder() / f"{name}{SUFFIXES[0]}")
    writing.write_private(file, f"{checked(text)}\n".encode())
    return file


def remove(names: Sequence[str]) -> None:
    """Remove saved prompts: all of them, or none if one name is wrong. Raises UsageError."""
    for file in [find(name) for name in names]:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{file} cannot be removed: {_reason(error)}") from error


def checked(text: str) -> str:
    """A prompt without the white space around it. Raises UsageError if it is empty, or a $ stands
    for nothing."""
    text = text.strip()
    if not text:
        raise UsageError("the prompt is empty", hint='for example: "Read this receipt."')
    for found in Template.pattern.finditer(text):
        if found["invalid"] is not None:
            line = text.count("\n", 0, found.start()) + 1
            there = text[found.start() : found.start() + 12].split("\n")[0]
            raise UsageError(
                f"line {line}: {there!r} is no variable", hint="a dollar sign itself is written $$"
            )
    return text


def variables(text: str) -> list[str]:
    """The names of the variables in a prompt, each once, in order."""
    return Template(text).get_identifiers()


def asked(prompt: str | None, template: str | None, given: Sequence[str]) -> str | None:
    """What `-p` says, or the prompt that `-T` names with its variables filled in, or None.

    `given` are NAME=VALUE, of `-D`. Raises UsageError unless they are just the variables of it.
    """
    if template is None:
        if given:
            raise UsageError("-D is for the variables of -T", hint="name a prompt with -T")
        return prompt
    if prompt is not None:
        raise UsageError("-T replaces -p", hint="give one of the two")
    return filled(template, given)


def filled(name: str, given: Sequence[str]) -> str:
    """As `asked`, of the prompt of this name."""
    values = _values(given)
    text = read(name)
    wanted = variables(text)
    if missing := [one for one in wanted if one not in values]:
        raise UsageError(
            f"{shown(name)} has the variable ${missing[0]}", hint=f'give it: -D {missing[0]}="…"'
        )
    if unused := [one for one in values if one not in wanted]:
        has = f"it has {', '.join(f'${one}' for one in wanted)}" if wanted else "it has none"
        raise UsageError(f"-D {unused[0]}: {shown(name)} has no such variable", hint=has)
    return Template(text).substitute(values)


def _values(given: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise UsageError(f"-D {shown(one)}: not NAME=VALUE", hint="-D language=French")
        if name in values:
            raise UsageError(f"-D {shown(name)} is given twice")
        values[name] = value
    return values


def completions(prefix: str) -> list[str]:
    """The names of saved prompts that start so."""
    try:
        return [name for name in saved() if name.startswith(prefix)]
    except UsageError:
        return []


def _is_path(name: str) -> bool:
    return "/" in name or os.sep in name


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
