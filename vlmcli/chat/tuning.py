"""`/set`: which settings can change while a chat goes on, under which names, and to what."""

import difflib
import shlex
from collections.abc import Mapping
from dataclasses import replace

from vlmcli import config
from vlmcli.errors import UsageError, shown
from vlmcli.settings import FORMS, SEEING, TABLE, Settings

BACK = "-"
"""As a value: what it was when the chat began."""

SETTABLE = tuple(
    name
    for name in TABLE
    if TABLE[name].metadata["panel"] != "Model" and name not in (*SEEING, *FORMS)
)


def _spellings() -> Mapping[str, str]:
    """Every way to write the name of a setting, its flags without their dashes among them."""
    found = {name: name for name in TABLE}
    for name, declared in TABLE.items():
        for flag in (f for flags in declared.metadata["flags"] for f in flags.split("/")):
            if not flag.startswith("--no-"):
                found.setdefault(flag.lstrip("-").replace("-", "_"), name)
    return found


def name_of(typed: str) -> str:
    """The setting that is meant by max_tokens, max-tokens, --max-tokens or n. Raises UsageError."""
    known = _spellings()
    key = typed.lstrip("-").replace("-", "_")
    name = known.get(key)
    if name in SETTABLE:
        return name
    if name in FORMS:
        raise UsageError(f"/set {shown(typed)}: a chat is in words", hint="see vlm ask")
    if name is not None:
        hint = "/model NAME" if name == "model" else f"vlm chat -c {config.long_flag(TABLE[name])}"
        raise UsageError(f"/set {shown(typed)}: that is settled when a model loads", hint=hint)
    near = difflib.get_close_matches(key, SETTABLE, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(SETTABLE)}"
    raise UsageError(f"/set: no setting is called {shown(typed)!r}", hint=hint)


def value_of(settings: Settings, name: str) -> str:
    """As it is typed, "-" where nothing is set."""
    value = getattr(settings, name)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(shlex.quote(one.encode("unicode_escape").decode()) for one in value) or BACK
    return BACK if value is None else str(value)


def changed(settings: Settings, began: Settings, name: str, typed: str) -> Settings:
    """The settings with what was typed for one of them. Raises UsageError."""
    origin = f"/set {name}"
    if typed == BACK:
        origins = {**settings.origins, name: began.origins[name]}
        return replace(settings, **{name: getattr(began, name)}, origins=origins)
    if TABLE[name].metadata["kind"] is not tuple:
        return config.changed(settings, name, typed, origin)
    try:
        texts = shlex.split(typed)
    except ValueError as error:
        raise UsageError(f"{origin}: {error}".lower(), hint='for example "END" "\\n\\n"') from error
    return config.changed(settings, name, tuple(map(_unescaped, texts)), origin)


def _unescaped(text: str) -> str:
    return text.replace("\\n", "\n").replace("\\t", "\t")
