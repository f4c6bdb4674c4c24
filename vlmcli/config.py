"""Settings, and the one rule of precedence: flag > VLM_* variable > config.toml > default.

The command line, the environment and the file are all read from the table in `settings`, and every
value remembers where it came from (`Settings.origins`).
"""

import difflib
import itertools
import os
from collections.abc import Mapping
from dataclasses import Field, replace
from typing import Any

from vlmcli import configfile
from vlmcli.errors import UsageError
from vlmcli.settings import FORMS, TABLE, Settings


def load(flags: Mapping[str, object]) -> Settings:
    """The settings of this run. A flag that is None, or an empty tuple, was not given."""
    return resolve(flags, os.environ, configfile.settings(), str(configfile.path()))


def resolve(
    flags: Mapping[str, object],
    environment: Mapping[str, str],
    file: Mapping[str, object],
    file_name: str = "config.toml",
) -> Settings:
    """`load` as a pure function; raises UsageError that names the value and where it stands."""
    for key in file:
        if key not in TABLE:
            near = difflib.get_close_matches(key, TABLE, n=1)
            hint = f"did you mean {near[0]}?" if near else f"settings: {', '.join(TABLE)}"
            raise UsageError(f"{file_name}: no setting is called {key!r}", hint=hint)

    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, declared in TABLE.items():
        variable = f"VLM_{name.upper()}"
        given = flags.get(name)
        if given is not None and given != ():
            raw, origin = given, long_flag(declared)
        elif environment.get(variable):
            raw, origin = environment[variable], variable
        elif name in file:
            raw, origin = file[name], f"{file_name}: {name}"
        else:
            origins[name] = "default"
            continue
        values[name] = _checked(raw, declared, origin)
        origins[name] = origin
    forms = [name for name in FORMS if values.get(name)]
    for pair in itertools.combinations(forms, 2) if FORMS[0] in flags else ():  # else none matters
        _take_one(pair, values, origins)
    return Settings(**values, origins=origins)


def _take_one(pair: tuple[str, str], values: dict[str, Any], origins: dict[str, str]) -> None:
    """Leave one of two forms of an answer that cannot both be: what was typed, not what is usual.

    Raises UsageError if both are.
    """
    if "extract" in pair and "choices" not in pair:
        return  # there is no code block in JSON, and no harm
    typed = [origins[name].startswith("-") for name in pair]
    if typed[0] == typed[1]:
        one, other = (origins[name] for name in pair)
        raise UsageError(f"{one} and {other} are two forms of an answer", hint="leave one out")
    usual = pair[typed.index(False)]
    if values.pop(usual, None) is not None:
        origins[usual] = "default"


def changed(settings: Settings, name: str, raw: object, origin: str) -> Settings:
    """The settings with another value for one of them; `origin` is what a message calls it.

    Raises UsageError for what is no value of it, in the words that its flag gets.
    """
    value = _checked(raw, TABLE[name], origin)
    origins = {**settings.origins, name: origin}
    return replace(settings, **{name: value}, origins=origins)  # type: ignore[arg-type]


def long_flag(declared: "Field[Any]") -> str:
    """The spelling of a setting on the command line that a message should use."""
    first: str = next(f for f in declared.metadata["flags"] if f.startswith("--"))
    return first.split("/")[0]


def _checked(raw: object, declared: "Field[Any]", origin: str) -> object:
    kind = declared.metadata["kind"]
    value = _CONVERT[kind](raw)
    if value is None:
        raise UsageError(f"{origin}: {raw!r} is not {_NOUN[kind]}")
    if (isinstance(value, str) and not value.strip()) or (isinstance(value, tuple) and "" in value):
        raise UsageError(f"{origin}: the value is empty")
    least, most = declared.metadata["least"], declared.metadata["most"]
    if least is not None and not value >= least:
        raise UsageError(f"{origin}: {_number(raw)} is too small", hint=f"at least {least}")
    if most is not None and not value <= most:
        raise UsageError(f"{origin}: {_number(raw)} is too large", hint=f"at most {most}")
    return value if declared.metadata["parse"] is None else _parsed(value, declared, origin)


def _parsed(value: object, declared: "Field[Any]", origin: str) -> object:
    try:
        return declared.metadata["parse"](value)
    except UsageError as error:
        raise UsageError(f"{origin}: {error.message}", hint=error.hint) from error


def _number(raw: object) -> str:
    try:
        return str(raw)[:40]
    except ValueError:  # Python does not write out whole numbers of thousands of digits
        return "the number"


# Each returns None for what it cannot take; a string is what an environment variable holds.


def _to_str(raw: object) -> str | None:
    return raw if isinstance(raw, str) else None


def _to_bool(raw: object) -> bool | None:
    if isinstance(raw, str):
        return _WORDS.get(raw.strip().lower())
    return raw if isinstance(raw, bool) else None


def _to_int(raw: object) -> int | None:
    if isinstance(raw, str):
        try:
            return int(raw)
        except ValueError:
            return None
    return raw if isinstance(raw, int) and not isinstance(raw, bool) else None


def _to_float(raw: object) -> float | None:
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        return None
    try:
        value = float(raw)
    except (ValueError, OverflowError):
        return None
    return value if value == value and abs(value) != float("inf") else None


def _to_texts(raw: object) -> tuple[str, ...] | None:
    if isinstance(raw, str):
        return (raw,)
    if isinstance(raw, list | tuple) and all(isinstance(item, str) for item in raw):
        return tuple(raw)
    return None


_WORDS = dict.fromkeys(("1", "true", "yes", "on"), True)
_WORDS |= dict.fromkeys(("0", "false", "no", "off"), False)
_CONVERT: Mapping[type, Any] = {
    str: _to_str,
    bool: _to_bool,
    int: _to_int,
    float: _to_float,
    tuple: _to_texts,
}
_NOUN: Mapping[type, str] = {
    str: "a text",
    bool: "yes or no",
    int: "a whole number",
    float: "a number",
    tuple: "a text or a list of texts",
}
