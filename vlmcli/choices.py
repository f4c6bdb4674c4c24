"""The texts that `--choices` names, of which the answer is one."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from vlmcli.errors import UsageError, shown

_EXAMPLE = "for example --choices cat,dog,bird"


def parse(values: Sequence[str]) -> tuple[str, ...]:
    """The choices in order, each once: between commas, in a JSON list, or on the lines of @FILE.

    No value at all is no choice to make. Raises UsageError for what is none of these, and for fewer
    than two.
    """
    if not values:
        return ()
    found = tuple(dict.fromkeys(choice for value in values for choice in _read(value)))
    if len(found) < 2:
        raise UsageError(f"one of what? there is only {found[0]!r}", hint=_EXAMPLE)
    for choice in found:
        if not choice:
            raise UsageError("a choice is empty", hint=_EXAMPLE)
        if choice.encode(errors="replace").decode() != choice:
            raise UsageError(f"{choice[:60]!r} is not valid UTF-8", hint="type it anew")
    return found


def _read(value: str) -> Iterator[str]:
    value = value.strip()
    if value.startswith("@"):
        found = [line for line in _lines(value[1:]) if line.strip()]
    elif value.startswith("["):
        found = _json_list(value)
    else:
        found = value.split(",")
    if not found:
        raise UsageError(f"{shown(value)} holds no choices", hint=_EXAMPLE)
    return (choice.strip() for choice in found)


def _lines(name: str) -> list[str]:
    try:
        return Path(name).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(
            f"{shown(name)}: {(error.strerror or str(error)).lower()}",
            hint="@FILE has a choice on each line",
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{shown(name)} is not UTF-8 text") from error


def _json_list(value: str) -> list[str]:
    try:
        found = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not a JSON list: {error}", hint=_EXAMPLE) from error
    if not all(isinstance(choice, str) for choice in found):
        raise UsageError("the choices of a JSON list are texts", hint='["cat", "dog"]')
    return list(found)
