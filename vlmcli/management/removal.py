"""The work of `vlm models rm`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import typer

from vlmcli import output
from vlmcli.errors import UsageError
from vlmcli.models import cached, names
from vlmcli.models.cached import Repo, Revision
from vlmcli.settings import Settings


@dataclass(frozen=True, slots=True)
class Removal:
    """Revisions of a model that are to go; all of them take the rest of the model along."""

    repo: Repo
    revisions: tuple[Revision, ...]

    @property
    def name(self) -> str:
        """The model's, if all of it is to go."""
        if len(self.revisions) == len(self.repo.revisions):
            return self.repo.name
        return ", ".join(one.name for one in self.revisions)

    @property
    def size(self) -> int:
        """The bytes that nothing else needs."""
        if len(self.revisions) == len(self.repo.revisions):
            return self.repo.size
        kept = [one for one in self.repo.revisions if one not in self.revisions]
        others = {blob for one in kept for blob in one.files.values()}
        freed = {blob for one in self.revisions for blob in one.files.values()} - others
        return sum(blob.stat().st_size for blob in freed)


def remove_all(models: Sequence[str], settings: Settings, *, ask: bool) -> None:
    """Remove the models, after a question; nothing at all if one of them cannot be found."""
    removals = _found(models)
    if ask and not _agreed(removals):
        output.note("nothing was removed")
        return
    from vlmcli.hub import cache

    for removal in removals:
        freed = cache.remove(removal.repo, removal.revisions)
        if settings.json:
            commits = [one.commit for one in removal.revisions]
            output.record({"name": removal.name, "revisions": commits, "freed_bytes": freed})
        else:
            output.row(removal.name, f"{output.size(freed)} freed")


def _found(models: Sequence[str]) -> list[Removal]:
    """One removal for each model, however often it was named, with the revisions that were."""
    repos: dict[str, Repo] = {}
    commits: dict[str, set[str]] = {}
    for model in models:
        repo, revisions = _in_cache(model)
        repos.setdefault(repo.name, repo)
        commits.setdefault(repo.name, set()).update(one.commit for one in revisions)
    return [
        Removal(repo, tuple(one for one in repo.revisions if one.commit in commits[name]))
        for name, repo in repos.items()
    ]


def _in_cache(model: str) -> tuple[Repo, tuple[Revision, ...]]:
    if model == names.BUILTIN:
        raise UsageError("builtin is a part of vlm: it cannot be removed")
    if names.is_path(model) or names.is_path(names.resolve_alias(model)):
        raise UsageError(f"{model} is a folder of yours, not in the cache", hint="rm -r removes it")
    return cached.find(model)


def _agreed(removals: Sequence[Removal]) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        listed = " ".join(removal.name for removal in removals)
        raise UsageError(f"nobody is there to ask whether {listed} may go", hint="-y says so")
    for removal in removals:
        output.note(f"{removal.name}: {_described(removal)}")
    return typer.confirm("Remove from the cache that all programs share?", err=True)


def _described(removal: Removal) -> str:
    count = len(removal.revisions)
    what = f"{count} revisions" if count > 1 else "1 revision" if count else "a broken-off download"
    return f"{output.size(removal.size)} in {what}"
