"""The Hub, the token, the cache, and whether there is a model to answer."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vlmcli import caches, output
from vlmcli.errors import ModelError, VlmError
from vlmcli.models import catalog, names
from vlmcli.models.files import SAFE
from vlmcli.output import Finding, State
from vlmcli.settings import Settings

if TYPE_CHECKING:
    from vlmcli.hub.status import Status

_GROUP = "models"
_WANTED = catalog.RECOMMENDED
_FORGET = "remove that folder to forget them; --no-cache keeps none"
_NAMED = 4  # so many cached models are named in the report


def findings(settings: Settings, *, loads: bool) -> Iterator[Finding]:
    """What the Hub says, what the cache holds, and what would answer.

    `loads` is whether torch and transformers work: without, no model can be looked at.
    """
    from vlmcli.hub.status import status

    hub = status(offline=settings.offline)
    yield _endpoint(hub, settings)
    yield _token(hub)
    cache = _look_at(names.cache_folder())
    yield _cache(cache)
    yield _free_space(cache)
    yield _features(settings)
    if loads:
        yield from _models(settings, hub, cache)


def _endpoint(hub: "Status", settings: Settings) -> Finding:
    facts = {"url": hub.endpoint, "reachable": hub.reachable}
    if hub.reachable is None:
        value = f"{hub.endpoint}: not asked, because of {_offline_by(settings)}"
        return Finding("hub", "endpoint", value, State.NOTE, facts=facts)
    if hub.trouble and not hub.reachable:
        value, hint = hub.trouble.message, hub.trouble.hint
        return Finding("hub", "endpoint", value, State.WARNING, hint, facts)
    return Finding("hub", "endpoint", f"{hub.endpoint} answers", facts=facts)


def _offline_by(settings: Settings) -> str:
    if settings.offline:
        return settings.origins["offline"]
    return "HF_HUB_OFFLINE" if os.environ.get("HF_HUB_OFFLINE") else "TRANSFORMERS_OFFLINE"


def _token(hub: "Status") -> Finding:
    facts = {"set": bool(hub.token_from), "from": hub.token_from, "accepted": hub.token_taken}
    if not hub.token_from:
        value = "none; only gated and private models need one"
        return Finding("hub", "token", value, State.NOTE, facts=facts)
    value = f"set (from {hub.token_from})"
    if hub.token_taken:
        return Finding("hub", "token", f"{value}; the Hub takes it", facts=facts)
    if hub.token_taken is False:
        hint = "make one at https://huggingface.co/settings/tokens, or unset it"
        if hub.trouble:
            value, hint = f"{value}: {hub.trouble.message}", hub.trouble.hint
        else:
            value = f"{value}; the Hub refuses it"
        return Finding("hub", "token", value, State.WARNING, hint, facts)
    return Finding("hub", "token", f"{value}; not checked", facts=facts)


@dataclass(frozen=True, slots=True)
class _Place:
    """The folder of the cache; `free_bytes` of the disk that it is, or will be, on."""

    folder: Path
    exists: bool
    writable: bool
    free_bytes: int


def _look_at(folder: Path) -> _Place:
    # os.path: what Path does raises for a folder that must not be looked into.
    nearest = next(
        path
        for path in (folder, *folder.absolute().parents)
        if os.path.exists(path)  # noqa: PTH110
    )
    free_bytes = 0
    with suppress(OSError):
        free_bytes = shutil.disk_usage(nearest).free
    try:
        with tempfile.TemporaryFile(dir=nearest):
            writable = True
    except OSError:
        writable = False
    return _Place(folder, nearest == folder, writable, free_bytes)


def _cache(cache: _Place) -> Finding:
    facts = {"path": str(cache.folder), "exists": cache.exists, "writable": cache.writable}
    if not cache.writable:
        value, hint = f"{cache.folder}: cannot be written", "HF_HOME moves it"
        return Finding(_GROUP, "cache", value, State.WARNING, hint, facts)
    value = str(cache.folder) if cache.exists else f"{cache.folder} (not there yet)"
    return Finding(_GROUP, "cache", value, facts=facts)


def _free_space(cache: _Place) -> Finding:
    value, facts = _gigabytes(cache.free_bytes), {"free_bytes": cache.free_bytes}
    if cache.free_bytes >= _WANTED.weight_bytes:
        return Finding(_GROUP, "free space", value, facts=facts)
    hint = f"{_WANTED.name} takes {_gigabytes(_WANTED.weight_bytes)}; HF_HOME moves the cache"
    return Finding(_GROUP, "free space", value, State.WARNING, hint, facts)


def _features(settings: Settings) -> Finding:
    place = _look_at(caches.features_folder())
    files, size_bytes = caches.held(place.folder, SAFE)
    facts = {
        "path": str(place.folder),
        "files": files,
        "bytes": size_bytes,
        "most_bytes": settings.max_cache_bytes,
        "writable": place.writable,
    }
    value = f"{output.size(size_bytes)} of pictures in {place.folder}"
    if not settings.cache:
        value += f"; not used, because of {settings.origins['cache']}"
        return Finding(_GROUP, "features", value, State.NOTE, _FORGET if files else "", facts)
    if not place.writable:
        value, hint = f"{place.folder}: cannot be written", "VLM_CACHE_DIR moves it"
        return Finding(_GROUP, "features", value, State.NOTE, hint, facts)
    return Finding(_GROUP, "features", value, hint=_FORGET if files else "", facts=facts)


def _models(settings: Settings, hub: "Status", cache: _Place) -> Iterator[Finding]:
    cached = names.cached_names()
    ready = [name for name in cached if _trouble_with(name, settings) is None]
    yield _cached(ready, len(cached) - len(ready))
    builtin = _trouble_with(names.BUILTIN, settings) is None
    value, state = ("ships with vlm", State.OK) if builtin else ("not in this build", State.NOTE)
    yield Finding(_GROUP, "built-in", value, state, facts={"ships": builtin})
    obstacle = _obstacle(hub, cache)
    default = _default(settings, obstacle)
    yield default
    yield _ready(bool(ready or default.facts.get("cached")), builtin, obstacle)


def _cached(ready: list[str], others: int) -> Finding:
    named = ", ".join([*ready[:_NAMED], *(["…"] if len(ready) > _NAMED else [])])
    value = f"{len(ready)}: {named}" if ready else "none"
    value += f"; and {others} that cannot answer" if others else ""
    state = State.OK if ready else State.NOTE
    return Finding(_GROUP, "cached", value, state, facts={"ready": ready, "others": others})


def _obstacle(hub: "Status", cache: _Place) -> str:
    """What stands in the way of a download, in words; empty if nothing does."""
    if hub.reachable is None:
        return "the Hub is not asked"
    if not hub.reachable:
        return "the Hub is out of reach"
    if hub.token_taken is False:  # the Hub then refuses public models too
        return "the Hub refuses the token"
    if not cache.writable:
        return "the cache cannot be written"
    if cache.free_bytes < _WANTED.weight_bytes:
        return "the disk is too full for another"
    return ""


def _default(settings: Settings, obstacle: str) -> Finding:
    value = f"{settings.model} ({settings.origins['model']})"
    facts: dict[str, object] = {"model": settings.model, "from": settings.origins["model"]}
    if settings.model == names.AUTO:
        return Finding(_GROUP, "default", value, facts=facts)
    trouble = _trouble_with(settings.model, settings)
    facts["cached"] = trouble is None
    if trouble is None:
        return Finding(_GROUP, "default", value, facts=facts)
    from vlmcli.hub.refusals import UnreachableError

    if isinstance(trouble, UnreachableError) and not obstacle:
        return Finding(_GROUP, "default", f"{value}, not downloaded yet", State.NOTE, facts=facts)
    value = f"{value}: {trouble.message}"
    return Finding(_GROUP, "default", value, State.WARNING, trouble.hint, facts)


def _trouble_with(name: str, settings: Settings) -> VlmError | None:
    """Why a model cannot answer as this machine is, without a download; None if it can."""
    from vlmcli import hub
    from vlmcli.backends.local import suits

    need = hub.Need(True, settings.allow_pickle, settings.trust_remote_code)
    try:
        suits.check(hub.resolve(name, offline=True, need=need), run_code=settings.trust_remote_code)
    except VlmError as error:
        return error
    return None


def _ready(cached: bool, builtin: bool, obstacle: str) -> Finding:
    facts = {"cached": cached, "builtin": builtin, "download": not obstacle}
    if cached:
        return Finding(_GROUP, "ready", "yes: a model is here", facts=facts)
    if builtin:
        return Finding(_GROUP, "ready", "yes: the built-in model answers", facts=facts)
    if not obstacle:
        size = _gigabytes(_WANTED.weight_bytes)
        value = f"yes: the first question downloads {_WANTED.name}, about {size}"
        return Finding(_GROUP, "ready", value, facts=facts)
    hint = "put that right, or name the folder of a model with -m"
    error = ModelError(f"no model is here, and {obstacle}", hint=hint)
    return Finding(_GROUP, "ready", f"no: {error.message}", State.PROBLEM, hint, facts, error)


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
