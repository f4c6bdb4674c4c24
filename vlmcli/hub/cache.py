"""Changes to the shared cache: models are removed from it, and what is damaged in it is mended."""

import glob
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from huggingface_hub import constants, scan_cache_dir, snapshot_download

from vlmcli.errors import ModelError
from vlmcli.hub.download import digest_of, download
from vlmcli.hub.refusals import UnreachableError, explained, session
from vlmcli.hub.transfer import Watch
from vlmcli.interrupts import interruptible
from vlmcli.models import cached
from vlmcli.models.cached import Repo, Revision
from vlmcli.models.files import CONFIG, Need, read_quietly, wanted_files

_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_WEIGHTS = (".safetensors", ".bin")


def remove(repo: Repo, chosen: Sequence[Revision]) -> int:
    """Take the revisions out of the cache; how many bytes that freed.

    With the last one goes all that is left of the model, broken-off downloads too. Raises
    ModelError if something cannot be removed.
    """
    whole = len(chosen) == len(repo.revisions)
    real = repo.folder.resolve()  # elsewhere, if the model was moved to another disk
    with explained(repo.name):
        _delete_known(repo, chosen)
        if whole:
            for place in (repo.folder, real):
                _delete(place)
            shutil.rmtree(repo.folder.parent / ".locks" / repo.folder.name, ignore_errors=True)
        else:
            kept = [one for one in repo.revisions if one not in chosen]
            for revision in chosen:
                _delete_revision(repo, revision, kept)
    after = cached.repo_in(repo.folder) if repo.folder.exists() else None
    return repo.size - (after.size if after else 0)


def _delete_known(repo: Repo, chosen: Sequence[Revision]) -> None:
    """Let huggingface_hub delete what its own scan finds: it passes over what is broken."""
    scan = scan_cache_dir(repo.folder.parent)
    # It looks for a commit in all models and takes the first; a copy of a repo has the same ones.
    ours = frozenset(found for found in scan.repos if found.repo_path.name == repo.folder.name)
    known = {revision.commit_hash for found in ours for revision in found.revisions}
    commits = known & {one.commit for one in chosen}
    if commits:
        replace(scan, repos=ours).delete_revisions(*commits).execute()


def _delete_revision(repo: Repo, revision: Revision, kept: Sequence[Revision]) -> None:
    """What is left of one revision, and not in those that are kept."""
    others = {blob for one in kept for blob in one.files.values()}
    _delete(revision.folder)
    for branch in revision.branches:
        (repo.folder / "refs" / branch).unlink(missing_ok=True)
    for blob in {*revision.files.values()} - others:
        blob.unlink(missing_ok=True)
    (repo.folder / "trees" / f"{revision.commit}.json").unlink(missing_ok=True)
    shutil.rmtree(repo.folder / ".no_exist" / revision.commit, ignore_errors=True)


def _delete(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def damaged_files(revision: Revision, checked: Callable[[Path], bool]) -> list[str]:
    """The files of a revision that are not what the Hub has; `checked` is `is_as_named` or so.

    Also those that are gone: a link without its bytes, a part of the weights.
    """
    spoilt = [
        path
        for path, blob in revision.files.items()
        if not (checked(blob) if _is_digest(blob, revision) else _is_as_listed(path, revision))
    ]
    return sorted({*spoilt, *revision.missing, *_lost_shards(revision)})


def is_as_named(blob: Path) -> bool:
    """Whether the bytes of a blob have the digest that is its name."""
    return _matches(blob, blob.name)


def _is_digest(blob: Path, revision: Revision) -> bool:
    """Whether the name of a file's blob tells what is in it: not where links cannot be made."""
    return revision.folder not in blob.parents and _DIGEST.fullmatch(blob.name) is not None


def _is_as_listed(path: str, revision: Revision) -> bool:
    """True also where nothing is known of the file: another program put it there."""
    digest = (revision.listed or {}).get(path)
    return digest is None or _matches(revision.files[path], digest)


def _matches(file: Path, digest: str) -> bool:
    """A check is no use of the model: when the file was last used stays as it was."""
    before = file.stat()
    try:
        return digest_of(file, digest) == digest
    except OSError:  # the disk cannot read it
        return False
    finally:
        with suppress(OSError):
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _lost_shards(revision: Revision) -> Iterator[str]:
    """The parts of the weights that their index names, and that are not there."""
    for path in revision.files:
        if not path.endswith((".safetensors.index.json", ".bin.index.json")):
            continue
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            named = set(json.loads(read_quietly(revision.folder / path))["weight_map"].values())
            # None at all: another program wanted only the texts, or other weights.
            if any(shard in revision.files for shard in named):
                yield from (shard for shard in named if shard not in revision.files)


def mend(revision: Revision, damaged: Sequence[str], watch: Watch) -> None:
    """Fetch the damaged files of a revision again.

    What is there of them stays if the Hub cannot give them. Raises ModelError.
    """
    if constants.HF_HUB_OFFLINE:
        hint = f"online, `vlm models verify {revision.name}` fetches it again"
        raise UnreachableError(f"{revision.name} is damaged", hint=hint)
    with _set_aside(revision, damaged):
        whole = {*revision.files, *revision.missing}
        need = Need(
            weights=any(path.endswith(_WEIGHTS) for path in {*whole, *damaged}),
            pickles=any(path.endswith(".bin") for path in damaged),
            code=any(path.endswith(".py") for path in damaged),
        )
        if CONFIG in whole and set(damaged) & set(wanted_files(damaged, need)):
            download(revision.repo, revision.commit, need, watch)
        rest = [path for path in damaged if not (revision.folder / path).exists()]
        if rest:
            _fetch(revision, rest)
    still = [path for path in damaged if not (revision.folder / path).exists()]
    if still:
        raise ModelError(f"{revision.name}: the Hub does not have {still[0]}")


def _fetch(revision: Revision, paths: Sequence[str]) -> None:
    """Files that vlm does not need itself, and that another program put there."""
    patterns = [glob.escape(path) for path in paths]
    with explained(revision.repo, revision.commit):
        session()  # raises what is wrong with it in our words
        interruptible(
            lambda _: snapshot_download(
                revision.repo, revision=revision.commit, allow_patterns=patterns
            )
        )


@contextmanager
def _set_aside(revision: Revision, damaged: Sequence[str]) -> Iterator[None]:
    """Damaged bytes are out of the way meanwhile, and gone afterwards if new ones came."""
    blobs = {revision.files[path] for path in damaged if path in revision.files}
    moved = {blob: blob.with_name(f"{blob.name}.damaged") for blob in blobs}
    with explained(revision.repo):
        for blob, aside in moved.items():
            blob.replace(aside)
    try:
        yield
    finally:
        for blob, aside in moved.items():
            with suppress(OSError):
                aside.unlink() if blob.exists() else aside.replace(blob)
