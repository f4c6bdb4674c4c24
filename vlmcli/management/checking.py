"""The work of `vlm models verify`."""

from collections.abc import Sequence
from functools import cache as remembered
from pathlib import Path

from vlmcli import output
from vlmcli.errors import ExitCode, ModelError, UsageError
from vlmcli.hub import cache
from vlmcli.models import cached, names
from vlmcli.models.cached import Revision
from vlmcli.settings import Settings


def check_all(models: Sequence[str], settings: Settings, *, mend: bool) -> ExitCode:
    """Check the models, or all; MODEL if one is damaged and stays so."""
    revisions = _chosen(models)
    if not revisions:
        output.note("no models here")
    found = _damage(revisions)
    unmended = 0
    fresh: set[Path] = set()
    for revision in revisions:
        damaged = found[revision.folder]
        # What another revision shares was mended with that one.
        left = [path for path in damaged if revision.files.get(path) not in fresh]
        trouble = None
        if left:
            trouble = _mended(revision, left, settings) if mend else _told(revision)
        if not trouble:
            fresh |= {revision.files[path] for path in left if path in revision.files}
        unmended += trouble is not None
        _report(revision, damaged, trouble, settings)
    return ExitCode.MODEL if unmended else ExitCode.OK


def _chosen(models: Sequence[str]) -> list[Revision]:
    if not models:
        return [revision for repo in cached.repos() for revision in repo.revisions]
    chosen: list[Revision] = []
    for model in models:
        if model == names.BUILTIN:
            raise UsageError("builtin is a part of vlm, and not in the cache", hint="pip checks it")
        repo, revisions = cached.find(model)
        if not revisions:
            hint = f"vlm models pull {repo.name} goes on with it"
            raise ModelError(f"{model} is only a part of a download", hint=hint)
        chosen += revisions
    return chosen


def _damage(revisions: Sequence[Revision]) -> dict[Path, list[str]]:
    """By the folder of each revision, its damaged files; a blob that several share is read once."""
    blobs = {blob for revision in revisions for blob in revision.files.values()}
    with output.progress(len(blobs)) as bar:

        @remembered
        def checked(blob: Path) -> bool:
            good = cache.is_as_named(blob)
            bar.advance(failed=not good)
            return good

        return {one.folder: cache.damaged_files(one, checked) for one in revisions}


def _told(revision: Revision) -> ModelError:
    hint = f"vlm models verify {revision.name} fetches it again"
    return ModelError(f"{revision.name} is damaged", hint=hint)


def _mended(revision: Revision, damaged: Sequence[str], settings: Settings) -> ModelError | None:
    """None if all of it is whole now, or else why not."""
    if settings.offline:
        return ModelError(f"{revision.name} is damaged", hint="without --offline, it is mended")
    try:
        with output.downloads() as watch:
            cache.mend(revision, damaged, watch)
    except ModelError as error:
        return error
    return None


def _report(
    revision: Revision, damaged: Sequence[str], trouble: ModelError | None, settings: Settings
) -> None:
    state = "ok" if not damaged else "damaged" if trouble else "mended"
    if settings.json:
        output.record(
            {
                "name": revision.name,
                "revision": revision.commit,
                "state": state,
                "damaged": list(damaged),
                "files": len(revision.files),
                "size_bytes": revision.size,
            }
        )
    else:
        said = ", ".join(damaged) or f"{len(revision.files)} files, {output.size(revision.size)}"
        output.row(revision.name, state, said)
    if trouble:
        output.error(trouble)
    elif revision.state in ("partial", "no weights") and not damaged:
        hint = f"vlm models pull {revision.name} fetches the rest"
        output.note(f"{revision.name}: what is here is sound, and not all of a model; {hint}")
