"""One conversation -> one answer on the screen, or one record."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from vlmcli import __version__, backends, forms, output, records, wire
from vlmcli.backends import Engine, ImagePreview, Reader
from vlmcli.errors import AnswerError, VlmError
from vlmcli.messages import (
    Answer,
    Chunk,
    Delta,
    Done,
    Image,
    Message,
    Thought,
    Video,
    images_of,
    outlined,
    seen_of,
    videos_of,
)
from vlmcli.settings import Settings

_BYTES_OF_PIXEL = 3


def load(settings: Settings) -> Engine:
    """The model that answers; says on stderr what the user should know of the choice."""
    engine = backends.load(settings)
    if engine.note:
        output.note(engine.note)
    idle = "with --choices" if settings.choices else "at temperature 0; see -t"
    if settings.choices or settings.temperature == 0:
        for name in ("top_p", "top_k", "min_p"):
            if getattr(settings, name) is not None:
                output.warn(f"{settings.origins[name]} does nothing {idle}")
    if settings.verbose:
        output.note(f"model: {engine.model} ({settings.origins['model']})")
        output.note(f"device: {engine.why}")
    return engine


def show(engine: Engine, conversation: Sequence[Message], settings: Settings) -> None:
    """Answer on stdout: streamed text, or one JSON object."""
    schema = settings.sampling.schema
    if settings.json or settings.choices or settings.extract or (schema and not settings.stream):
        show_answer(engine, conversation, collect(engine, conversation, settings), settings)
        return
    text, done = output.stream(
        engine.generate(forms.asked(conversation, settings), settings.sampling),
        live=settings.stream,
        reasoning=not settings.hide_reasoning,
        markdown=schema is None,
    )
    forms.finished(text, done, conversation, settings)
    finish(engine, done, settings, said=bool(text))


def show_answer(
    engine: Engine, conversation: Sequence[Message], answer: Answer, settings: Settings
) -> None:
    """As `show`, of an answer that is there."""
    if settings.json:
        output.record(record(engine, conversation, answer, settings))
    elif settings.choices or settings.extract or settings.sampling.schema:
        output.thoughts(answer.reasoning)
        output.plain(answer.text)
    else:
        chunks: list[Chunk] = [Thought(answer.reasoning), Delta(answer.text), answer.done]
        output.stream(iter(chunks))
    finish(engine, answer.done, settings, said=bool(answer.text))


@dataclass(frozen=True, slots=True)
class Asked:
    """A conversation that waits for its answer, and what the engine is `given` of it.

    One that an engine has prepared has no pixels any more; `nbytes` is what is held of it.
    """

    conversation: Sequence[Message]
    given: Sequence[Message]
    nbytes: int


def prepare(engine: Engine | None, conversation: Sequence[Message], settings: Settings) -> Asked:
    """What is asked, prepared on any thread if the engine is there and can do that.

    Raises as `Engine.generate` does.
    """
    given = forms.asked(conversation, settings)
    if engine is None or engine.prepare is None:
        pixels = sum(image.width * image.height for image in images_of(conversation))
        return Asked(conversation, given, _BYTES_OF_PIXEL * pixels)
    prepared = engine.prepare(given)
    return Asked(outlined(conversation), prepared, prepared.nbytes)


def collect_many(
    engine: Engine, several: Sequence[Asked], settings: Settings, *, together: int
) -> Iterator[Answer | VlmError]:
    """As `collect`, for each in its order; an error stands in the place of an answer.

    If no two are to be answered `together`, it is as if each were asked alone.
    """
    if together < 2 or engine.generate_many is None:
        for one in several:
            try:
                yield collect(engine, one.conversation, settings)
            except VlmError as error:
                yield error
        return
    found = engine.generate_many([one.given for one in several], settings.sampling)
    for one, answer in zip(several, found, strict=True):
        yield answer if isinstance(answer, VlmError) else _finished(answer, one, settings)


def _finished(answer: Answer, one: Asked, settings: Settings) -> Answer | VlmError:
    try:
        text = forms.finished(answer.text, answer.done, one.conversation, settings)
    except AnswerError as error:
        return error
    return replace(answer, text=text, reasoning="" if settings.hide_reasoning else answer.reasoning)


def collect(engine: Engine, conversation: Sequence[Message], settings: Settings) -> Answer:
    """The whole answer, nothing printed; without what was thought if that is to be hidden.

    Raises AnswerError if it is not in the form that the settings ask for.
    """
    if settings.choices:
        return forms.choose(engine, conversation, settings)
    *chunks, done = engine.generate(forms.asked(conversation, settings), settings.sampling)
    assert isinstance(done, Done)  # the contract of Engine.generate
    thoughts = "".join(chunk.text for chunk in chunks if isinstance(chunk, Thought))
    text = "".join(chunk.text for chunk in chunks if isinstance(chunk, Delta))
    text = forms.finished(text, done, conversation, settings)
    return Answer(text, "" if settings.hide_reasoning else thoughts, done)


def finish(
    engine: Engine, done: Done, settings: Settings, name: str = "", *, said: bool = True
) -> None:
    """Statistics, where they were asked for, and why an answer ended early.

    `said` is whether there is an answer at all, and not only thoughts.
    """
    if settings.stats:
        output.stats(done, engine.label)
    about = f"{name}: " if name else ""
    if done.reason == "loop":
        output.warn(f"{about}the model repeated itself without end, and was stopped")
    elif done.reason == "length" and not said:
        output.warn(f"{about}no answer in {done.new_tokens} tokens: -n allows more to think in")
    elif done.reason == "length" and settings.verbose:
        output.note(f"{about}the answer was cut at {done.new_tokens} tokens; -n allows more")


def record(
    engine: Engine, conversation: Sequence[Message], answer: Answer, settings: Settings
) -> dict[str, object]:
    """What `--json` says of an answer; about several images or clips seen together, lists."""
    seen, videos, done = seen_of(conversation), videos_of(conversation), answer.done
    drawn = done.seed if settings.seed is None else None
    fields: dict[str, object] = {
        "file": _each(seen, "name"),
        "text": answer.text,
        **({"data": json.loads(answer.text)} if settings.sampling.schema else {}),
        **({"probabilities": answer.probabilities} if answer.probabilities else {}),
        **({"reasoning": answer.reasoning} if answer.reasoning else {}),
        "finish_reason": done.reason,
        "model": engine.model,
        "revision": engine.revision,
        **({"fingerprint": engine.fingerprint()} if engine.fingerprint else {}),
        "prompt": "\n".join(conversation[-1].texts),
        **records.beyond_prompt(conversation, settings.system),
        **({"settings": settings.answering} if settings.answering else {}),
        **({"seed": drawn} if drawn is not None else {}),
        "width": _each(seen, "width"),
        "height": _each(seen, "height"),
        **({"sha256": _each(seen, "sha256")} if seen else {}),
        **({"clips": [_clip(video) for video in videos]} if videos else {}),
        "image_tokens": done.image_tokens,
        "prompt_tokens": done.prompt_tokens,
        **({"cached_tokens": done.cached_tokens} if done.cached_tokens else {}),
        **({"cached_features": done.cached_features} if done.cached_features else {}),
        **({"batch_size": done.together} if done.together > 1 else {}),
        "new_tokens": done.new_tokens,
        "seconds_to_first_token": round(done.seconds_to_first_token, 4),
        "seconds": round(done.seconds, 4),
        **({"phases": _phases(done)} if settings.stats and done.phases else {}),
        "device": engine.device,
        "dtype": engine.dtype,
        **({"quantize": engine.quantize} if settings.quantize != "none" else {}),
        "version": __version__,
        "versions": records.versions(engine.packages, seen),
    }
    return fields | ({"note": engine.note} if engine.note else {})


def _phases(done: Done) -> dict[str, float]:
    """In seconds; those of the start are of the first answer only."""
    answering = {
        "first_token": done.seconds_to_first_token,
        "decoding": done.seconds - done.seconds_to_first_token,
    }
    return {name: round(seconds, 4) for name, seconds in {**done.phases, **answering}.items()}


def _each(seen: Sequence[Image | Video], attribute: str) -> object:
    values = [getattr(one, attribute) for one in seen]
    return values[0] if len(values) == 1 else values


def _clip(video: Video) -> dict[str, object]:
    """Of a clip, what the model saw: the times of the frames, in seconds."""
    return {
        "file": video.name,
        "duration": round(video.duration_s, 3),
        "frames": list(video.times_s),  # in full: at a rounded time another frame may be shown
    }


def dry_run(reader: Reader, conversation: Sequence[Message], settings: Settings) -> None:
    """What would be sent to the model: the conversation, its images, and the exact prompt text."""
    conversation = forms.asked(conversation, settings)
    preview = reader.preview(conversation)
    seen = list(zip(seen_of(conversation), preview.images, strict=True))
    videos = [_clip(one) | _became(became) for one, became in seen if isinstance(one, Video)]
    shown = {
        "model": reader.model,
        "revision": reader.revision,
        "messages": wire.to_json(conversation),
        "images": [
            {"image": one.name, **_became(became), "tiles": became.tiles}
            for one, became in seen
            if isinstance(one, Image)
        ],
        **({"clips": videos} if videos else {}),
        "prompt": preview.prompt,
        "prompt_tokens": preview.prompt_tokens,
    }
    if settings.json:
        output.record(shown)
    else:
        output.document(shown)


def _became(image: ImagePreview) -> dict[str, object]:
    return {"size": image.size, "resized": image.resized, "image_tokens": image.image_tokens}
