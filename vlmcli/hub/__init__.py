"""A model's name -> a folder on this machine: the only place that knows the Hugging Face Hub.

The shared cache comes first: a revision that is whole there costs no network call. What goes wrong
leaves here as a VlmError of one line.
"""

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, errors, get_cached_repo_tree, snapshot_download
from huggingface_hub.file_download import repo_folder_name

from vlmcli.errors import ModelError, UsageError
from vlmcli.hub.download import download, no_weights
from vlmcli.hub.refusals import UnreachableError, explained
from vlmcli.hub.transfer import UNWATCHED, Watch
from vlmcli.models import catalog, names
from vlmcli.models.cached import BUILTIN_FOLDER
from vlmcli.models.files import CONFIG, WEIGHTS, Need, holds_weights, read_config, wanted_files

__all__ = ["ModelRef", "Need", "Watch", "code_files", "resolve", "resolve_auto"]

# Set here and not in the environment, for which it is too late once transformers is imported.
if "HF_HUB_ETAG_TIMEOUT" not in os.environ:
    constants.HF_HUB_ETAG_TIMEOUT = 5  # how long the Hub may take to answer at all, in seconds
if "HF_HUB_DISABLE_TELEMETRY" not in os.environ:
    constants.HF_HUB_DISABLE_TELEMETRY = True
if "HF_HUB_VERBOSITY" not in os.environ:  # its warnings only repeat what our one line says
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model on this machine: its name, where it lies, and which commit it is.

    `revision` is None for a local folder. `note` is a line for the user, where one is due.
    """

    name: str
    folder: Path
    revision: str | None
    note: str = ""


def resolve(
    name: str,
    *,
    revision: str | None = None,
    offline: bool = False,
    need: Need = WEIGHTS,
    watch: Watch = UNWATCHED,
) -> ModelRef:
    """The model of this name: a local folder, `builtin`, a short name, or owner/name[@revision].

    A model of the Hub is downloaded unless the cache holds what is needed of it.
    Raises ModelError; UsageError if two revisions are asked for, or one of a folder.
    """
    local = _local(name)
    if local and revision is not None:
        raise UsageError(f"{name} is a local model: it has no revision {revision}")
    if local and need.weights and not holds_weights(local.folder, need):
        raise no_weights(name, [file.name for file in local.folder.iterdir()])
    return local or _from_hub(*names.hub_name(name, revision), offline, need, watch)


def resolve_auto(
    memory_bytes: int, *, offline: bool = False, need: Need = WEIGHTS, watch: Watch = UNWATCHED
) -> ModelRef:
    """The best recommended model that is cached whole and fits (`catalog.Row.memory_bytes`).

    With none cached, the recommended one is downloaded; with the Hub out of reach, or too little
    memory for it, the built-in model answers. Raises ModelError if there is none of these.
    """
    fitting = [row for row in catalog.MODELS if row.memory_bytes <= memory_bytes]
    for row in fitting:
        folder = _cached(row.name, names.MAIN, WEIGHTS)
        if folder and _is_whole(folder, row.name, WEIGHTS):
            return ModelRef(row.name, folder, folder.name)
    choice = catalog.RECOMMENDED
    try:
        if choice in fitting:
            return _from_hub(choice.name, names.MAIN, offline, need, watch)
        reason = f"no cached model fits in {memory_bytes / 1e9:.1f} GB of memory"
        failure = ModelError(reason, hint=f"the recommended {choice.name} does not either")
    except UnreachableError as error:
        reason = "no model is cached and the Hub is out of reach"
        failure = ModelError(f"no model is cached: {error.message}", hint=error.hint)
    if builtin := _builtin(f"{reason}: the small built-in model answers"):
        return builtin
    raise failure


def code_files(ref: ModelRef) -> list[str]:
    """The program code that a model brings along: names of files of its repo, or of its folder.

    Code that its configuration takes from another repo is listed with the name of that.
    """
    listed = _listing(ref.name, ref.folder) if ref.revision else None
    if listed is None:
        listed = [file.name for file in ref.folder.glob("*.py")]
    own = read_config(ref.folder).get("auto_map")
    classes = own.values() if isinstance(own, dict) else ()
    borrowed = {name.rpartition(".")[0] for name in classes if "--" in str(name)}
    elsewhere = [f"{name.replace('--', ': ')}.py" for name in borrowed]
    return sorted(file for file in listed if file.endswith(".py")) + sorted(elsewhere)


def _local(name: str) -> ModelRef | None:
    if folder := names.local_folder(name):
        return ModelRef(str(folder), folder, None)
    if name != names.BUILTIN:
        return None
    if builtin := _builtin():
        return builtin
    raise ModelError("this build ships no built-in model", hint="name one with -m owner/name")


def _builtin(note: str = "") -> ModelRef | None:
    ships = (BUILTIN_FOLDER / CONFIG).is_file()
    return ModelRef(names.BUILTIN, BUILTIN_FOLDER, None, note) if ships else None


def _from_hub(repo: str, revision: str, offline: bool, need: Need, watch: Watch) -> ModelRef:
    revision = _in_full(repo, revision)
    folder, note = _cached(repo, revision, need), ""
    if folder is None or not _is_whole(folder, repo, need):
        try:
            if offline or constants.HF_HUB_OFFLINE:
                named = repo if revision == names.MAIN else f"{repo}@{revision}"
                hint = f"online, `vlm models pull {named}` fetches it"
                raise UnreachableError(f"{repo} ({revision}) is not in the cache", hint=hint)
            folder = download(repo, revision, need, watch)
        except UnreachableError:
            if folder is None:
                raise
            note = f"the Hub is out of reach: the cached copy of {repo} may lack some files"
    return ModelRef(repo, folder, folder.name, note)


def _in_full(repo: str, revision: str) -> str:
    """A commit that was cut short, as `vlm models ls` prints it, in full if one such is here."""
    with explained(repo, revision):
        place = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repo, repo_type="model"))
        if not re.fullmatch(r"[0-9a-f]{7,39}", revision) or (place / "refs" / revision).is_file():
            return revision
        found = [folder.name for folder in (place / "snapshots").glob(f"{revision}*")]
    return found[0] if len(found) == 1 else revision


def _cached(repo: str, revision: str, need: Need) -> Path | None:
    """The cached snapshot of the revision, if it holds config.json and, if needed, all weights."""
    with explained(repo, revision):
        try:
            found = snapshot_download(
                repo, revision=revision, local_files_only=True, allow_patterns=[CONFIG]
            )
        except errors.LocalEntryNotFoundError:
            return None
        folder = Path(found)
        there = not need.weights or holds_weights(folder, need)
        return folder if (folder / CONFIG).is_file() and there else None


def _is_whole(folder: Path, repo: str, need: Need) -> bool:
    """Whether all wanted files are there, by the list that huggingface_hub keeps of the commit."""
    listed = _listing(repo, folder)
    if listed is None:
        return True  # another program fetched it file by file: it ran there, so it will here
    return all((folder / file).is_file() for file in wanted_files(listed, need))


def _listing(repo: str, folder: Path) -> list[str] | None:
    """The files of a snapshot's commit on the Hub, if the cache knows them."""
    try:
        return [file.path for file in get_cached_repo_tree(repo, revision=folder.name)]
    except (errors.CachedRepoTreeNotFoundError, OSError):
        return None
