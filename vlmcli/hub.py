"""A model's name -> a folder on this machine: the only file that knows the Hugging Face Hub.

The shared cache comes first: a revision that is whole there costs no network call. What goes wrong
leaves here as a VlmError of one line; `_explained` is the boundary.
"""

import errno
import glob
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from huggingface_hub import HfApi, constants, errors, get_cached_repo_tree, snapshot_download
from huggingface_hub.utils import get_session, tqdm  # type: ignore[attr-defined]

from vlmcli import catalog
from vlmcli.errors import ModelError, UsageError
from vlmcli.interrupts import Stop, interruptible

T = TypeVar("T")

BUILTIN_FOLDER = Path(__file__).parent / "builtin"
_LOG_IN = "set HF_TOKEN or run `hf auth login`"
_NETWORK = "is the network up? is there a proxy, or a sign-in page?"

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


class _UnreachableError(ModelError):
    """The Hub cannot be asked, for want of a network or of leave to use it."""


def resolve(
    name: str, *, revision: str | None = None, offline: bool = False, weights: bool = True
) -> ModelRef:
    """The model of this name: a local folder, `builtin`, a short name, or owner/name[@revision].

    A model of the Hub is downloaded unless the cache holds it; its weights only if `weights`.
    Raises ModelError; UsageError if two revisions are asked for, or one of a folder.
    """
    local = _local(name)
    if local and revision is not None:
        raise UsageError(f"{name} is a local model: it has no revision {revision}")
    return local or _from_hub(*catalog.hub_name(name, revision), offline, weights)


def resolve_auto(memory_bytes: int, *, offline: bool = False, weights: bool = True) -> ModelRef:
    """The best recommended model that is cached whole and fits (`catalog.Row.memory_bytes`).

    With none cached, the recommended one is downloaded; with the Hub out of reach, or too little
    memory for it, the built-in model answers. Raises ModelError if there is none of these.
    """
    fitting = [row for row in catalog.MODELS if row.memory_bytes <= memory_bytes]
    for row in fitting:
        folder = _cached(row.name, catalog.MAIN, True)
        if folder and _is_whole(folder, row.name, True):
            return ModelRef(row.name, folder, folder.name)
    choice = catalog.RECOMMENDED
    try:
        if choice in fitting:
            return _from_hub(choice.name, catalog.MAIN, offline, weights)
        reason = f"no cached model fits in {memory_bytes / 1e9:.1f} GB of memory"
        failure = ModelError(reason, hint=f"the recommended {choice.name} does not either")
    except _UnreachableError as error:
        reason = "no model is cached and the Hub is out of reach"
        failure = ModelError(f"no model is cached: {error.message}", hint=error.hint)
    if builtin := _builtin(f"{reason}: the small built-in model answers"):
        return builtin
    raise failure


def _local(name: str) -> ModelRef | None:
    if folder := catalog.local_folder(name):
        return ModelRef(str(folder), folder, None)
    if name != catalog.BUILTIN:
        return None
    if builtin := _builtin():
        return builtin
    raise ModelError("this build ships no built-in model", hint="name one with -m owner/name")


def _builtin(note: str = "") -> ModelRef | None:
    ships = (BUILTIN_FOLDER / "config.json").is_file()
    return ModelRef(catalog.BUILTIN, BUILTIN_FOLDER, None, note) if ships else None


def _from_hub(repo: str, revision: str, offline: bool, weights: bool) -> ModelRef:
    folder, note = _cached(repo, revision, weights), ""
    if folder is None or not _is_whole(folder, repo, weights):
        try:
            if offline or constants.HF_HUB_OFFLINE:
                hint = "run once without --offline and HF_HUB_OFFLINE"
                raise _UnreachableError(f"{repo} ({revision}) is not in the cache", hint=hint)
            folder = _download(repo, revision, weights)
        except _UnreachableError:
            if folder is None:
                raise
            note = f"the Hub is out of reach: the cached copy of {repo} may lack some files"
    return ModelRef(repo, folder, folder.name, note)


def _explained(work: Callable[[str, str, bool], T]) -> Callable[[str, str, bool], T]:
    """`work(repo, revision, weights)`: the one place where the Hub's failures become ours."""

    def explained(repo: str, revision: str, weights: bool) -> T:
        try:
            return work(repo, revision, weights)
        except _FAILURES as error:
            wrapper = isinstance(error, errors.LocalEntryNotFoundError)
            raise _explanation((wrapper and error.__cause__) or error, repo, revision) from error

    return explained


_GARBLED = (json.JSONDecodeError, UnicodeEncodeError, errors.HFValidationError)
_FAILURES = (OSError, httpx2.HTTPError, httpx2.InvalidURL, *_GARBLED, RuntimeError)  # the last: xet


@_explained
def _cached(repo: str, revision: str, weights: bool) -> Path | None:
    """The cached snapshot of the revision, if it holds config.json and, if wanted, all weights."""
    try:
        found = snapshot_download(
            repo, revision=revision, local_files_only=True, allow_patterns=["config.json"]
        )
    except errors.LocalEntryNotFoundError:
        return None
    folder = Path(found)
    there = not weights or catalog.holds_weights(folder)
    return folder if (folder / "config.json").is_file() and there else None


def _is_whole(folder: Path, repo: str, weights: bool) -> bool:
    """Whether all wanted files are there, by the list that huggingface_hub keeps of the commit."""
    try:
        listed = [file.path for file in get_cached_repo_tree(repo, revision=folder.name)]
    except (errors.CachedRepoTreeNotFoundError, OSError):
        return True  # another program fetched it file by file: it ran there, so it will here
    return all((folder / file).is_file() for file in _wanted(listed, weights))


def _wanted(files: list[str], weights: bool) -> list[str]:
    found = catalog.wanted_files(files)
    return found if weights else [file for file in found if not file.endswith(".safetensors")]


@_explained
def _download(repo: str, revision: str, weights: bool) -> Path:
    """The folder of the revision, its wanted files fetched unless they were there."""
    answer_s = constants.HF_HUB_ETAG_TIMEOUT
    # The deadline also counts what a timeout does not: slow name servers, several dead addresses.
    info = interruptible(
        lambda _: HfApi().model_info(repo, revision=revision, timeout=answer_s), answer_s
    )
    files = [file.rfilename for file in info.siblings or ()]
    wanted = _wanted(files, weights)
    if weights and not any(file.endswith(".safetensors") for file in wanted):
        hint = "pickles (.bin, .pt) can run code; does the Hub have a conversion?"
        raise ModelError(f"vlm loads safetensors only, and {repo} has none", hint=hint)
    if "config.json" not in wanted:
        raise ModelError(f"{repo} holds no model: config.json is missing")

    def fetch(stop: Stop) -> str:
        with _watched_session(stop):
            return snapshot_download(
                repo,
                revision=revision,
                allow_patterns=[glob.escape(file) for file in wanted],
                tqdm_class=_bars(stop),
            )

    folder = Path(interruptible(fetch))
    if weights and not catalog.holds_weights(folder):
        raise ModelError(f"{repo} is not whole on the Hub: some of its weights are missing")
    return folder


@contextmanager
def _watched_session(stop: Stop) -> Iterator[None]:
    """Nothing is asked of the Hub once `stop` is set, and nothing waits for ever."""

    def ask(request: httpx2.Request) -> None:
        stop.check()
        for phase, timeout_s in request.extensions["timeout"].items():
            request.extensions["timeout"][phase] = timeout_s or constants.HF_HUB_DOWNLOAD_TIMEOUT

    def hear(response: httpx2.Response) -> None:
        stop.sockets.add(response.extensions["network_stream"].get_extra_info("socket"))
        stop.check()

    hooks = get_session().event_hooks
    hooks["request"].append(ask)
    hooks["response"].append(hear)
    try:
        yield
    finally:
        hooks["request"].remove(ask)
        hooks["response"].remove(hear)


def _bars(stop: Stop) -> type:
    """The library's progress bars, on a terminal only; they raise once `stop` is set."""

    class Bars(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options | {"disable": not sys.stderr.isatty()})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> Any:
            stop.check()
            return super().update(n)

    return Bars


def _explanation(error: BaseException, repo: str, revision: str) -> ModelError:
    hub = constants.ENDPOINT
    match error:
        case errors.GatedRepoError():  # before its base class, RepositoryNotFoundError
            hint = f"accept its terms at {hub}/{repo}, then {_LOG_IN}"
            return ModelError(f"{repo} is gated", hint=hint)
        case errors.RepositoryNotFoundError():
            hint = catalog.nearest(repo) or f"if it is private, {_LOG_IN}"
            return ModelError(f"no model {repo} on {hub}", hint=hint)
        case errors.RevisionNotFoundError():
            return ModelError(f"{repo} has no revision {revision}", hint=f"see {hub}/{repo}")
        case errors.HfHubHTTPError():
            return _refusal(error.response.status_code, repo)
        case errors.HFValidationError():
            return ModelError(f"no model is called {repo!r}", hint=catalog.FORMS)
        case TimeoutError() | httpx2.TimeoutException():
            return _UnreachableError(f"{hub} did not answer in time", hint=_NETWORK)
        case httpx2.LocalProtocolError() | UnicodeEncodeError():  # whose text holds the token
            return ModelError("the token holds a character that none can", hint=_LOG_IN)
        case httpx2.HTTPError() | httpx2.InvalidURL():
            return _UnreachableError(f"cannot reach {hub}: {error}", hint=_NETWORK)
        case json.JSONDecodeError():
            return _UnreachableError(f"{hub} does not answer as a Hub does", hint=_NETWORK)
        case OSError(errno=errno.ENOSPC):
            return ModelError(f"no space left for {repo} in {constants.HF_HUB_CACHE}")
        case OSError(errno=errno.EACCES | errno.EPERM | errno.EROFS):
            return ModelError(f"no access to {error.filename}", hint="HF_HOME moves the cache")
    return ModelError(f"cannot download {repo}: {' '.join(str(error).split())}")


def _refusal(status: int, repo: str) -> ModelError:
    answer = f"{constants.ENDPOINT} answers {status} for {repo}"
    if status >= 500:
        return _UnreachableError(answer, hint="the Hub is in trouble: try again later")
    hints = dict.fromkeys((401, 403), f"it does not take your token, or wants one: {_LOG_IN}")
    hints[429] = f"you asked too often: wait a few minutes; with a token you may more: {_LOG_IN}"
    return ModelError(answer, hint=hints.get(status, ""))
