"""What a user can type for a model, and what it means: folders, short names, names of the Hub.

Shell completion is made of this file, so it imports nothing that takes long.
"""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from vlmcli import configfile
from vlmcli.errors import ModelError, UsageError
from vlmcli.models.catalog import ALIASES

AUTO = "auto"
BUILTIN = "builtin"
MAIN = "main"
FORMS = "a model is a folder with a config.json, owner/name[@revision] on the Hub, or auto"


def aliases() -> Mapping[str, str]:
    """Every short name and what it stands for: the user's own ones, which win, and the table's.

    Raises UsageError if config.toml is broken.
    """
    return {**ALIASES, **configfile.aliases()}


def resolve_alias(name: str) -> str:
    """What a short name stands for, in the end: owner/name[@revision] or a folder's path.

    Any other name stays as it is. Raises UsageError for short names that stand for each other.
    """
    return end_of(name, aliases())


def end_of(name: str, known: Mapping[str, str]) -> str:
    """`resolve_alias` among other short names than those that are written down."""
    seen = [name]
    while seen[-1] in known:
        meant = known[seen[-1]]
        if meant in seen:
            chain = " = ".join([*seen, meant])
            raise UsageError(
                f"{configfile.path()}: short names go in a circle: {chain}",
                hint=f"vlm models alias --rm {seen[-1]}",
            )
        seen.append(meant)
    return seen[-1]


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The Hub cache that every Hugging Face program on this machine shares.

    Follows huggingface_hub.constants, which takes too long to import for a shell completion.
    """
    caches = environment.get("XDG_CACHE_HOME", "~/.cache")
    home = environment.get("HF_HOME", Path(caches, "huggingface"))
    legacy = environment.get("HUGGINGFACE_HUB_CACHE", str(Path(home, "hub")))
    folder = environment.get("HF_HUB_CACHE", legacy)
    return Path(os.path.expandvars(folder)).expanduser()


def cached_names(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Hub names (owner/name) of which the cache holds a snapshot, whole or not, in order."""
    names = []
    for snapshots in cache_folder(environment).glob("models--*--*/snapshots"):
        try:
            if any(snapshots.iterdir()):
                names.append(snapshots.parent.name.removeprefix("models--").replace("--", "/"))
        except OSError:  # not ours to read: nothing that can be loaded
            continue
    return sorted(names)


def local_folder(name: str) -> Path | None:
    """The folder of that name, or short name, if it holds a model; None if it can be another's.

    Raises ModelError if it can only be a folder's, and no model is there.
    """
    if not name:  # of a variable that is not set, perhaps; to Path it is the folder we are in
        return None
    # os.path: what Path does raises for ~nobody, and for a name that is too long.
    folder = Path(os.path.expanduser(name))  # noqa: PTH111
    if os.path.isfile(folder / "config.json"):  # noqa: PTH113
        return folder
    known = aliases()
    if name in known and is_path(meant := end_of(name, known)):
        return local_folder(meant)
    is_word = name == folder.name and name not in (AUTO, BUILTIN, *known)
    if (is_path(name) or is_word) and os.path.isdir(folder):  # noqa: PTH112
        raise ModelError(f"{name} holds no model: config.json is missing", hint=FORMS)
    if is_path(name):
        raise ModelError(f"no such folder: {name}", hint=FORMS)
    return None


def is_path(name: str) -> bool:
    """Whether a name can only be that of a folder: `./x`, `~/x`, `/x`, `x/`."""
    return _PATH.match(name) is not None


def hub_name(typed: str, revision: str | None = None) -> tuple[str, str]:
    """The Hub name and the revision that `owner/name`, `owner/name@revision` or an alias means.

    The revision that an alias stands for gives way to one that was typed. Raises UsageError if
    `revision` is another than the typed one, ModelError if that cannot be a name.
    """
    short, _, suffix = typed.partition("@")
    if suffix and revision not in (None, suffix):
        raise UsageError(f"{typed} and --revision {revision}: two revisions", hint="name one")
    repo, _, written_down = resolve_alias(short).partition("@")
    revision = suffix or revision or written_down or MAIN
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise ModelError(f"no model is called {typed!r}", hint=nearest(repo) or FORMS)
    if not re.fullmatch(r"\w[\w./+-]*", revision) or ".." in revision:
        raise ModelError(f"{revision!r} is not a branch, a tag or a commit")
    return repo, revision


_PATH = re.compile(r"(~[^/\\]*|\.\.?)?[/\\]|[A-Za-z]:[/\\]|(\.\.?|~)$|.*[/\\]$")


def nearest(name: str) -> str:
    """A hint that names the known models most like this one; empty if none is."""
    known = _readable_aliases()
    near = difflib.get_close_matches(
        name, dict.fromkeys([*known, *known.values(), *cached_names()]), n=2
    )
    return f"did you mean {' or '.join(near)}?" if near else ""


def completions(prefix: str) -> list[str]:
    """Every name of a model that starts so: short names, the two special ones, and cached ones."""
    names = (AUTO, BUILTIN, *_readable_aliases(), *cached_names())
    return [name for name in names if name.startswith(prefix)]


def cached_completions(prefix: str) -> list[str]:
    """The names that start so and stand for something in the cache, if only for a part."""
    places = cache_folder().glob("models--*")
    cached = sorted(place.name.removeprefix("models--").replace("--", "/") for place in places)
    short = [a for a, name in _readable_aliases().items() if name.partition("@")[0] in cached]
    return [name for name in (*short, *cached) if name.startswith(prefix)]


def alias_completions(prefix: str) -> list[str]:
    """The user's own short names that start so."""
    own = [short for short, name in _readable_aliases().items() if ALIASES.get(short) != name]
    return [short for short in own if short.startswith(prefix)]


def _readable_aliases() -> Mapping[str, str]:
    """`aliases` for what must not fail over a broken file: a hint, a completion."""
    try:
        return aliases()
    except UsageError:
        return ALIASES
