"""One conversation -> one answer on the screen, or one record."""

from collections.abc import Sequence

from vlmcli import __version__, backends, output, wire
from vlmcli.backends import Engine
from vlmcli.messages import Done, Image, Message, images_of
from vlmcli.settings import Settings


def load(settings: Settings) -> Engine:
    """The model that answers; says on stderr what the user should know of the choice."""
    engine = backends.load(settings)
    if engine.note:
        output.note(engine.note)
    if settings.temperature == 0:
        for name in ("top_p", "top_k", "min_p"):
            if getattr(settings, name) is not None:
                output.warn(f"{settings.origins[name]} does nothing at temperature 0; see -t")
    if settings.verbose:
        output.note(f"model: {engine.model} ({settings.origins['model']})")
        output.note(f"device: {engine.why}")
    return engine


def show(engine: Engine, conversation: Sequence[Message], settings: Settings) -> None:
    """Answer on stdout: streamed text, or one JSON object."""
    if settings.json:
        text, done = collect(engine, conversation, settings)
        output.record(record(engine, conversation, text, done))
    else:
        chunks = engine.generate(conversation, settings.sampling)
        _, done = output.stream(chunks, live=settings.stream)
    finish(engine, done, settings)


def collect(
    engine: Engine, conversation: Sequence[Message], settings: Settings
) -> tuple[str, Done]:
    """The whole answer, nothing printed."""
    *deltas, done = engine.generate(conversation, settings.sampling)
    assert isinstance(done, Done)  # the contract of Engine.generate
    return "".join(delta.text for delta in deltas if not isinstance(delta, Done)), done


def finish(engine: Engine, done: Done, settings: Settings, name: str = "") -> None:
    """Statistics, where they were asked for, and why an answer ended early."""
    if settings.stats:
        output.stats(done, engine.label)
    about = f"{name}: " if name else ""
    if done.reason == "loop":
        output.warn(f"{about}the model repeated itself without end, and was stopped")
    elif done.reason == "length" and settings.verbose:
        output.note(f"{about}the answer was cut at {done.new_tokens} tokens; -n allows more")


def record(
    engine: Engine, conversation: Sequence[Message], text: str, done: Done
) -> dict[str, object]:
    """What `--json` says of an answer; about several images seen together, lists."""
    images = images_of(conversation)
    fields: dict[str, object] = {
        "file": _each(images, "name"),
        "text": text,
        "finish_reason": done.reason,
        "model": engine.model,
        "revision": engine.revision,
        "prompt": "\n".join(conversation[-1].texts),
        "width": _each(images, "width"),
        "height": _each(images, "height"),
        "sha256": _each(images, "sha256"),
        "image_tokens": done.image_tokens,
        "prompt_tokens": done.prompt_tokens,
        "new_tokens": done.new_tokens,
        "seconds_to_first_token": round(done.seconds_to_first_token, 4),
        "seconds": round(done.seconds, 4),
        "device": engine.device,
        "dtype": engine.dtype,
        "version": __version__,
    }
    return fields | ({"note": engine.note} if engine.note else {})


def _each(images: Sequence[Image], attribute: str) -> object:
    values = [getattr(image, attribute) for image in images]
    return values[0] if len(values) == 1 else values


def dry_run(conversation: Sequence[Message], settings: Settings) -> None:
    """What would be sent to the model: the conversation, its images, and the exact prompt text."""
    preview = backends.preview(settings, conversation)
    shown = {
        "model": preview.model,
        "revision": preview.revision,
        "messages": wire.to_json(conversation),
        "images": [
            {
                "image": image.name,
                "size": image.size,
                "resized": image.resized,
                "tiles": image.tiles,
                "image_tokens": image.image_tokens,
            }
            for image in preview.images
        ],
        "prompt": preview.prompt,
        "prompt_tokens": preview.prompt_tokens,
    }
    if settings.json:
        output.record(shown)
    else:
        output.document(shown)
