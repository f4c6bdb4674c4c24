"""The work of `vlm models default` and `vlm models alias`: names that stand in config.toml."""

import os
import re
from collections.abc import Mapping

from vlmcli import config, configfile, output
from vlmcli.configfile import ALIASES
from vlmcli.errors import ModelError, UsageError
from vlmcli.models import cached, catalog, names
from vlmcli.output import Column

_VARIABLE = "VLM_MODEL"


def tell_default(flags: Mapping[str, object]) -> None:
    """Print the model that answers, and on stderr who says so."""
    settings = config.load(flags)
    origin = settings.origins["model"]
    if settings.json:
        output.record({"model": settings.model, "origin": origin})
        return
    output.plain(settings.model)
    chosen = "auto takes the best one that fits and is here"
    output.note(chosen if origin == "default" else f"by {origin}")


def set_default(model: str) -> None:
    """Write the default into config.toml."""
    name = _checked(model) if model not in (names.AUTO, names.BUILTIN) else model
    configfile.put("model", name)
    _warn_of_variable()
    _note_if_not_cached(name)


def unset_default(model: str | None) -> None:
    """Take the default out of config.toml."""
    if model is not None:
        raise UsageError(f"--unset and {model}", hint="give one of the two")
    if not configfile.drop("model"):
        output.note(f"{configfile.path()} names no default")
    _warn_of_variable()


def _warn_of_variable() -> None:
    if other := os.environ.get(_VARIABLE):
        output.warn(f"{_VARIABLE}={other} comes first")


def tell_aliases(short: str | None, flags: Mapping[str, object]) -> None:
    """Print all short names and what they stand for, or what one stands for."""
    settings = config.load(flags)
    known, own = names.aliases(), configfile.aliases()
    if short is not None and short not in known:
        hint = names.nearest(short) or f"vlm models alias {short} owner/name sets it"
        raise UsageError(f"no short name is called {short!r}", hint=hint)
    chosen = [short] if short is not None else [*own, *(one for one in known if one not in own)]
    meant = {one: names.end_of(one, known) for one in chosen}
    if settings.json:
        for one, name in meant.items():
            output.record({"alias": one, "name": name, "own": one in own})
    elif short is not None:
        output.plain(meant[short])
    else:
        rows = [(one, name, "yours" if one in own else "") for one, name in meant.items()]
        output.table((Column("ALIAS", style="cyan"), Column("NAME"), Column("", spare=1)), rows)


def set_alias(short: str, model: str) -> None:
    """Write a short name into config.toml."""
    if short in (names.AUTO, names.BUILTIN):
        raise UsageError(f"{short} has a meaning of its own", hint="take another short name")
    if not re.fullmatch(r"[\w.][\w.-]*", short):
        raise UsageError(
            f"a short name is not {short!r}", hint="letters, digits, and . - _ in between"
        )
    if model in (names.AUTO, names.BUILTIN):
        raise UsageError(f"{model} is short already", hint="name a model of the Hub, or a folder")
    names.end_of(short, {**names.aliases(), short: model})  # raises if that goes in a circle
    name = _checked(model)
    configfile.put(short, name, table=ALIASES)
    if short in catalog.ALIASES:
        output.note(f"{short} is now yours; --rm gives it back to {catalog.ALIASES[short]}")
    _note_if_not_cached(name)


def remove_alias(short: str | None, model: str | None) -> None:
    """Take a short name out of config.toml."""
    if short is None or model is not None:
        raise UsageError("--rm takes one short name", hint="vlm models alias lists them")
    if not configfile.drop(short, table=ALIASES):
        built_in = short in catalog.ALIASES
        reason = "is not yours: it comes with vlm" if built_in else "is no short name of yours"
        raise UsageError(f"{short} {reason}", hint="vlm models alias lists yours")


def _checked(model: str) -> str:
    """How the file is to name the model; raises if nothing can be called so.

    A folder is written down from its root, as the file is read from everywhere.
    """
    if folder := names.local_folder(model):
        return model if model in names.aliases() else str(folder.absolute())
    names.hub_name(model)
    return model


def _note_if_not_cached(name: str) -> None:
    if name in (names.AUTO, names.BUILTIN) or names.local_folder(name):
        return
    try:
        cached.find(name)
    except ModelError:
        output.note(f"{name} is not in the cache yet: vlm models pull {name}")
