"""The work of `vlm models pull`."""

from collections.abc import Sequence

from vlmcli import hub, output
from vlmcli.errors import ExitCode, ModelError, VlmError
from vlmcli.hub import ModelRef, Need, Watch
from vlmcli.hub.download import download
from vlmcli.models import cached, catalog, facts, names
from vlmcli.settings import Settings


def pull_all(models: Sequence[str], settings: Settings, *, update: bool) -> ExitCode:
    """Fetch one after the other, past those that cannot be had; the code of the first of these."""
    failures: list[VlmError] = []
    for model in models:
        try:
            _pull(catalog.RECOMMENDED.name if model == names.AUTO else model, settings, update)
        except VlmError as error:
            if len(models) == 1:
                raise
            failures.append(error)
            output.error(error)
    return failures[0].exit_code if failures else ExitCode.OK


def _pull(model: str, settings: Settings, update: bool) -> None:
    before = _commits(model)
    need = Need(pickles=settings.allow_pickle, code=settings.trust_remote_code)
    revision, offline = settings.revision, settings.offline
    with output.downloads() as watch:
        if not settings.trust_remote_code:
            texts = _seeing(model, settings, watch)
            offline = offline or bool(texts.note)  # out of reach: that is not waited for twice
        if update and names.local_folder(model) is None and model != names.BUILTIN:
            ref = _updated(model, settings, need, watch)
        else:
            ref = hub.resolve(model, revision=revision, offline=offline, need=need, watch=watch)
    if ref.note:
        output.note(ref.note)
    new = ref.revision is not None and ref.revision not in before
    if settings.json:
        output.record(
            {
                "name": ref.name,
                "revision": ref.revision,
                "folder": str(ref.folder),
                "downloaded": new,
            }
        )
        return
    if not new:
        output.note(f"{ref.name} is {'up to date' if update else 'here already'}")
    output.row(ref.name, ref.revision or "", str(ref.folder))


def _seeing(model: str, settings: Settings, watch: Watch) -> ModelRef:
    """The texts of the model; ModelError, before any weights come, if it cannot see."""
    texts = hub.resolve(
        model,
        revision=settings.revision,
        offline=settings.offline,
        need=Need(weights=False),
        watch=watch,
    )
    kind = facts.kind_of(texts.folder)
    if kind.sees is False:
        raise ModelError(
            f"{texts.name} is not a vision-language model: {kind.name} answers nothing about"
            " pictures",
            hint="vlm models ls --recommended lists some that do",
        )
    return texts


def _updated(model: str, settings: Settings, need: Need, watch: Watch) -> ModelRef:
    """The newest commit of the branch, fetched unless it is here."""
    repo, revision = names.hub_name(model, settings.revision)
    old = _commit_of(repo, revision)
    if settings.offline:
        raise ModelError(f"{repo}: --update asks the Hub, and --offline forbids it")
    folder = download(repo, revision, need, watch)
    if old not in (None, folder.name):
        hint = f"vlm models rm {repo}@{old[:7]} removes the old one"
        output.note(f"{repo}: {revision} moved from {old[:7]} to {folder.name[:7]}; {hint}")
    return ModelRef(repo, folder, folder.name)


def _commit_of(repo: str, revision: str) -> str | None:
    """Where a branch points to in the cache."""
    try:
        _, (found,) = cached.find(f"{repo}@{revision}")
    except ModelError:
        return None
    return found.commit


def _commits(model: str) -> set[str]:
    """The commits of the model that are whole by now."""
    try:
        _, revisions = cached.find(names.hub_name(model)[0])
    except VlmError:
        return set()
    return {one.commit for one in revisions if one.state == "whole"}
