"""Repo -> files in the shared cache: resumed, checked, and never half a file under a whole name.

huggingface_hub 2.4 throws away what a broken download has got. So the bytes are fetched here, each
file under the name and the lock that the library itself uses, and then `snapshot_download` finds
them there, and does the rest of what makes its cache.
"""

import glob
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import filelock
from huggingface_hub import HfApi, constants, hf_hub_url, snapshot_download
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]

from vlmcli.errors import ModelError
from vlmcli.hub.refusals import DamagedError, explained, session
from vlmcli.hub.transfer import Reporter, Watch, silent, watched_session
from vlmcli.interrupts import Stop, interruptible
from vlmcli.models.files import CONFIG, Need, holds_weights, wanted_files

CARD = "README.md"
"""Tells the licence; a model works without it."""
AT_ONCE = 4
"""Files fetched at a time."""
ROOM_BYTES = 64 << 20
"""What a download leaves free on the disk."""

# So often the library looks at what has come: after a break it goes on from the last such mark.
constants.DOWNLOAD_CHUNK_SIZE = 1 << 16


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a commit; `digest` is its name among the cache's blobs.

    It is the SHA-256 of a large file, and git's SHA-1 of a small one.
    """

    path: str
    size: int
    digest: str


def download(repo: str, revision: str, need: Need, watch: Watch) -> Path:
    """The folder of the revision, its wanted files fetched unless they were there.

    Raises ModelError.
    """
    with explained(repo, revision):
        commit, files = _listed(repo, revision, need)
        folder = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repo, repo_type="model"))
        # The same bytes under two names are fetched once.
        own = list({file.digest or file.path: file for file in files}.values())
        _check_room(repo, folder, own)

        def fetch(stop: Stop) -> str:
            with watched_session(stop):
                _fetch_all(repo, commit, folder, own, Reporter(stop, watch))
                return snapshot_download(
                    repo,
                    revision=revision,
                    allow_patterns=[glob.escape(file.path) for file in files],
                    tqdm_class=silent(stop),
                )

        snapshot = Path(interruptible(fetch))
    if need.weights and not holds_weights(snapshot, need):
        raise ModelError(f"{repo} is not whole on the Hub: some of its weights are missing")
    return snapshot


def _listed(repo: str, revision: str, need: Need) -> tuple[str, list[RemoteFile]]:
    """The commit, and what is wanted of it."""
    session()  # raises what is wrong with it in our words
    answer_s = constants.HF_HUB_ETAG_TIMEOUT
    # The deadline also counts what a timeout does not: slow name servers, several dead addresses.
    ask = partial(HfApi().model_info, repo, revision=revision, files_metadata=True)
    try:
        info = interruptible(lambda _: ask(timeout=answer_s), answer_s)
    except (TypeError, AttributeError, LookupError) as error:  # JSON, but of something else
        raise json.JSONDecodeError("not what a Hub answers", "", 0) from error
    siblings = {file.rfilename: file for file in info.siblings or ()}
    wanted = wanted_files(siblings, need)
    if need.weights and not any(file.endswith((".safetensors", ".bin")) for file in wanted):
        raise no_weights(repo, list(siblings))
    if CONFIG not in wanted:
        raise ModelError(f"{repo} holds no model: config.json is missing")
    wanted += [CARD] if CARD in siblings else []
    files = []
    for path in wanted:
        file = siblings[path]
        large = file.lfs
        digest = large.sha256 if large else file.blob_id
        files.append(RemoteFile(path, file.size or 0, digest or ""))
    return info.sha or revision, files


def no_weights(repo: str, files: Sequence[str]) -> ModelError:
    """What to say of a model among whose files there are no weights that may be used."""
    pickles = [file for file in files if file.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    if any(file.startswith("pytorch_model") for file in pickles):
        hint = f"--allow-pickle takes {pickles[0]}, which can run any code: only if you trust it"
        return ModelError(f"{repo} has its weights only as pickles", hint=hint)
    others = {Path(file).suffix for file in files} & {".gguf", ".onnx", ".msgpack", ".h5", ".pt"}
    kinds = f", but {', '.join(sorted(others))} files" if others else ""
    if any(file.endswith(".safetensors.index.json") for file in files):
        return ModelError(f"{repo} lacks some of its weights", hint="are all its files there?")
    hint = "vlm takes safetensors; look for a version of the model for transformers"
    return ModelError(f"{repo} has no weights for transformers{kinds}", hint=hint)


def _check_room(repo: str, folder: Path, files: Sequence[RemoteFile]) -> None:
    missing = sum(file.size - _have(folder, file) for file in files)
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    if missing and missing + ROOM_BYTES > free:
        raise ModelError(
            f"{repo} takes {_gigabytes(missing)} more, and {constants.HF_HUB_CACHE} has"
            f" {_gigabytes(free)} free",
            hint="free some space (vlm models rm), or name another place with HF_HOME",
        )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def _have(folder: Path, file: RemoteFile) -> int:
    """Bytes of a file that are there, in whole or in part."""
    if (folder / "blobs" / file.digest).is_file():
        return file.size
    return min(_size(_part(folder, file)), file.size)


def _part(folder: Path, file: RemoteFile) -> Path:
    return folder / "blobs" / f"{file.digest}.incomplete"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _fetch_all(
    repo: str, commit: str, folder: Path, files: Sequence[RemoteFile], reporter: Reporter
) -> None:
    # What the library calls too large for plain HTTP is left to it; so is what has no digest.
    limit = constants.MAX_HTTP_DOWNLOAD_SIZE
    missing = [
        file
        for file in files
        if file.digest and file.size <= limit and not (folder / "blobs" / file.digest).is_file()
    ]
    if not missing:
        return
    had = [_have(folder, file) for file in missing]
    reporter.watch.expect(repo, sum(file.size for file in missing), sum(had))
    (folder / "blobs").mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        work = [
            pool.submit(_fetch, repo, commit, folder, file, known, reporter)
            for file, known in zip(missing, had, strict=True)
        ]
        try:
            for done in work:
                done.result()
        except BaseException:
            reporter.stop.set()  # the others need not go on
            raise


def _fetch(
    repo: str, commit: str, folder: Path, file: RemoteFile, known: int, reporter: Reporter
) -> None:
    """One file into the blobs, from where an earlier try was cut: at `known` bytes, or later."""
    blob = folder / "blobs" / file.digest
    lock = folder.parent / ".locks" / folder.name / f"{file.digest}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with _held(lock, file, reporter):
        if blob.is_file():  # by another process, while this one waited
            reporter.start(file.path, file.size, known, file.size)
            reporter.watch.finish(file.path)
            return
        part = _part(folder, file)
        have = _size(part)
        if have > file.size:
            part.unlink()
            have = 0
        reporter.start(file.path, file.size, known, have)
        with part.open("ab") as out, _size_checked(part, file):
            http_get(
                hf_hub_url(repo, file.path, revision=commit),
                out,
                resume_size=have,
                headers=build_hf_headers(),
                expected_size=file.size,
                displayed_filename=file.path,
                tqdm_class=reporter.bar(file.path),
            )
        _check(part, file)
        part.replace(blob)
        reporter.watch.finish(file.path)


@contextmanager
def _held(lock: Path, file: RemoteFile, reporter: Reporter) -> Iterator[None]:
    """The lock that other programs with this cache take too."""
    told = False
    while True:
        reporter.stop.check()
        try:
            with WeakFileLock(lock, timeout=0.5):
                yield
            return
        except filelock.Timeout:
            if not told:
                reporter.watch.wait(file.path)
            told = True


@contextmanager
def _size_checked(part: Path, file: RemoteFile) -> Iterator[None]:
    """A body of another size than the Hub told is damaged, and nothing can go on from it."""
    try:
        yield
    except OSError as error:
        # The library's check of the size: what the system raises has a number, the rest a subclass.
        if type(error) is not OSError or error.errno is not None:
            raise
        part.unlink()
        raise DamagedError(f"{file.path} is not of the size that the Hub tells") from error


def _check(part: Path, file: RemoteFile) -> None:
    """Raise DamagedError, and throw the bytes away, if they are not those of the commit."""
    if digest_of(part, file.digest) != file.digest:
        part.unlink()
        raise DamagedError(f"{file.path} arrived damaged")


def digest_of(path: Path, like: str) -> str:
    """The digest of a file's bytes, of the kind that `like` is: git's SHA-1, or SHA-256."""
    if len(like) == 40:
        hashed = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    else:
        hashed = hashlib.sha256()
    with path.open("rb") as content:
        while chunk := content.read(1 << 20):
            hashed.update(chunk)
    return hashed.hexdigest()
