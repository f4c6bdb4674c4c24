"""The file config.toml: where it is, what stands in it, and how a value is put there."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vlmcli import writing
from vlmcli.errors import UsageError

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

ALIASES = "aliases"
"""The table of the user's own short names of models."""


def path() -> Path:
    """The configuration file: `VLM_CONFIG`, or config.toml in the user's configuration folder."""
    if override := os.environ.get("VLM_CONFIG"):
        return Path(override)
    import platformdirs  # here: a shell that completes has no use for it where VLM_CONFIG is set

    return platformdirs.user_config_path("vlm") / "config.toml"


def read_file(file: Path) -> Mapping[str, object]:
    """What config.toml says; empty if there is none. Raises UsageError if it is broken."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        if os.environ.get("VLM_CONFIG"):  # somebody named it
            raise UsageError(f"VLM_CONFIG: {file}: no such file") from error
        return {}
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, a number without end
        raise _not_toml(file, error) from error
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}", hint="mend or remove it") from error


def settings() -> Mapping[str, object]:
    """What the file says of settings: all of it but the tables that have a use of their own."""
    return {name: value for name, value in read_file(path()).items() if name != ALIASES}


def aliases() -> Mapping[str, str]:
    """The user's own short names of models, and what each stands for. Raises UsageError."""
    file = path()
    if os.environ.get("VLM_CONFIG") and not file.exists():
        return {}  # for `settings` to complain of: a name can be looked up without any
    found = read_file(file).get(ALIASES, {})
    if not isinstance(found, dict):
        raise _no_table(file, ALIASES)
    for short, name in found.items():
        if not isinstance(name, str) or not name.strip():
            raise UsageError(f"{file}: {ALIASES}: {short}: {name!r} is not the name of a model")
    return found


def put(name: str, value: str, *, table: str = "") -> None:
    """Write a value, in a table or above all tables; all else, comments too, stays as it is.

    Raises UsageError if the file is broken, OutputError if it cannot be written.
    """
    import tomlkit

    document = _parse()
    if table and table not in document:
        document[table] = tomlkit.table()
    place = document[table] if table else document
    place[name] = value
    writing.write_private(path(), document.as_string().encode())


def drop(name: str, *, table: str = "") -> bool:
    """Take a value out; whether it was there. Raises as `put` does."""
    document = _parse()
    place = document.get(table, {}) if table else document
    if not isinstance(place, dict):
        raise _no_table(path(), table)
    if name not in place:
        return False
    del place[name]
    if table and not place:
        del document[table]
    writing.write_private(path(), document.as_string().encode())
    return True


def _parse() -> "TOMLDocument":
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    file = path()
    try:
        return tomlkit.parse(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return tomlkit.document()
    except (TOMLKitError, ValueError, RecursionError) as error:
        raise _not_toml(file, error) from error
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}", hint="mend or remove it") from error


def _no_table(file: Path, table: str) -> UsageError:
    return UsageError(f"{file}: {table} is not a table", hint=f"write [{table}] above them")


def _not_toml(file: Path, error: Exception) -> UsageError:
    return UsageError(f"{file}: not TOML: {error}", hint="mend or remove it")
