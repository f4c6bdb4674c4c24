"""What `vlm models show` says of one model."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vlmcli import backends, memory, messages, output
from vlmcli.backends import ImagePreview
from vlmcli.errors import ModelError, VlmError
from vlmcli.management import entries
from vlmcli.management.entries import NOT_CACHED, Entry
from vlmcli.models import cached, catalog, facts, names
from vlmcli.settings import Settings

EXAMPLE_SIZE = (640, 480)
"""The picture, in pixels, whose tokens are counted: as a webcam takes them."""
LABEL = len("parameters")


def tell(model: str, settings: Settings) -> None:
    """Print all that can be known of the model without loading its weights."""
    entry = _entry(model)
    if settings.json:
        picture = _picture(entry, settings)
        output.record(_as_json(entry, picture))
        return
    output.facts(_facts(entry), LABEL)
    output.facts((("" if n else "files", line) for n, line in enumerate(_files(entry))), LABEL)
    if entry.folder is not None and entry.kind.sees is not False:
        output.facts([("picture", _picture_in_words(_picture(entry, settings)))], LABEL)


def tell_template(model: str) -> None:
    """Print the chat template."""
    entry = _entry(model)
    text = facts.chat_template(entry.folder) if entry.folder else None
    if text is None:
        raise ModelError(f"{entry.name} has no chat template{_why(entry)}")
    output.plain(text)


def _why(entry: Entry) -> str:
    return " here: it is not in the cache" if entry.state == NOT_CACHED else ""


def _entry(model: str) -> Entry:
    room = memory.here()
    if folder := names.local_folder(model):
        return entries.of_folder(str(folder), folder, room)
    if model == names.BUILTIN:
        if builtin := entries.of_builtin(room):
            return builtin
        raise ModelError("this build ships no built-in model", hint="see vlm models ls -a")
    try:
        repo, revisions = cached.find(model)
    except ModelError:
        name, revision = names.hub_name(model)
        row = next((row for row in catalog.MODELS if row.name == name), None)
        if row is None or revision != names.MAIN:
            raise
        return entries.of_row(row, room)
    of_repo = entries.of_repo(repo, room)
    return next(entry for entry in of_repo if entry.revision in (*revisions, None))


def _facts(entry: Entry) -> list[tuple[str, str]]:
    """Labels and texts; what is not known is left out."""
    here = entry.folder if entry.state != NOT_CACHED else None
    template = facts.chat_template(here) if here else None
    context = facts.context_tokens(here) if here else None
    pull = f"not cached: vlm models pull {entry.name}"
    said = {
        "name": entry.name,
        "alias": ", ".join(entry.aliases),
        "type": _type(entry),
        "good at": entry.row.good_at if entry.row else "",
        "state": {"whole": "", NOT_CACHED: pull}.get(entry.state, entry.state),
        "parameters": _parameters(entry),
        "context": f"{context} tokens" if context else "unknown" if here else "",
        "memory": _memory(entry),
        "on disk": output.size(entry.size) if here else "",
        "download": "" if here else f"about {output.size(entry.size)}",
        "licence": entries.licence(entry) or "unknown",
        "gated": "accept its terms on the Hub first" if entry.row and entry.row.gated else "",
        "template": f"{len(template)} characters: --template prints it" if template else "",
        "last used": output.ago(entry.last_used) if entry.last_used else "",
        "branch": ", ".join(entry.revision.branches) if entry.revision else "",
        "commit": entry.revision.commit if entry.revision else "",
        "folder": str(here or ""),
    }
    return [(label, text) for label, text in said.items() if text]


def _type(entry: Entry) -> str:
    kind = entry.kind
    parts = ", ".join(part for part in (kind.vision, kind.text) if part)
    blind = "; answers nothing about pictures" if kind.sees is False else ""
    return f"{kind.name}{f' ({parts})' if parts else ''}{blind}" if kind.name else ""


def _parameters(entry: Entry) -> str:
    count, formats = entry.weights.numbers, ", ".join(entry.weights.formats)
    if count is None:
        return "" if entry.state == NOT_CACHED else "unknown"
    for unit, size in (("billion", 1e9), ("million", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}, {formats}"
    return f"{count}, {formats}"


def _memory(entry: Entry) -> str:
    if entry.memory_bytes is None or entry.fits is None:
        return ""
    fits = {"yes": "fits here", "tight": "tight here", "no": "too big for here"}[entry.fits]
    return f"{output.size(entry.memory_bytes)}, {fits}"


def _files(entry: Entry) -> list[str]:
    return [f"{path}  {output.size(size)}" for path, size in _sizes(entry).items()]


def _sizes(entry: Entry) -> Mapping[str, int]:
    if entry.revision:
        return {path: blob.stat().st_size for path, blob in sorted(entry.revision.files.items())}
    if entry.folder is None:
        return {}
    files = sorted(file for file in entry.folder.iterdir() if file.is_file())
    return {file.name: file.stat().st_size for file in files}


def _picture(entry: Entry, settings: Settings) -> ImagePreview | None:
    """What the model would see of a picture; None if its processor cannot be run here."""
    if entry.folder is None or entry.kind.sees is False:
        return None
    chosen = replace(settings, model=str(entry.folder), offline=True, revision=None)
    chosen = replace(chosen, origins={**settings.origins, "revision": "default"})
    try:
        with output.status("counting what a picture costs"):
            reader = backends.read(chosen)
            preview = reader.preview([messages.user("What is it?", [_example()])])
    except VlmError:
        return None
    return preview.images[0]


def _example() -> messages.Image:
    from PIL import Image

    return messages.Image("example", Image.new("RGB", EXAMPLE_SIZE, "grey"), sha256="")


def _picture_in_words(picture: ImagePreview | None) -> str:
    size = "{} x {}".format(*EXAMPLE_SIZE)
    if picture is None or picture.image_tokens is None:
        return f"unknown number of tokens for {size}"
    tiles = f" in {picture.tiles} tiles" if picture.tiles and picture.tiles > 1 else ""
    return f"{picture.image_tokens} tokens for {size}{tiles}"


def _as_json(entry: Entry, picture: ImagePreview | None) -> dict[str, object]:
    folder: Path | None = entry.folder
    return entries.as_json(entry, default=False) | {
        "vision_type": entry.kind.vision or None,
        "text_type": entry.kind.text or None,
        "context_tokens": facts.context_tokens(folder) if folder else None,
        "image_tokens": picture.image_tokens if picture else None,
        "image_size": list(EXAMPLE_SIZE),
        "tiles": picture.tiles if picture else None,
        "chat_template": facts.chat_template(folder) if folder else None,
        "files": [{"path": path, "size_bytes": size} for path, size in _sizes(entry).items()],
    }
