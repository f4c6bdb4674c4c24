"""The vocabulary that every part of the program speaks: messages in, chunks of an answer out.

Standard library only, so that anything can import it at no cost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, cast

if TYPE_CHECKING:
    from PIL.Image import Image as Pixels

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "loop"]


@dataclass(frozen=True, slots=True)
class Text:
    """Words, exactly as the user typed them.

    `caption_style` is set when they are one of vlm's own caption prompts: a captioner that knows no
    instructions (BLIP, Florence-2) is then asked in its own way instead.
    """

    text: str
    caption_style: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """One picture, upright, in sRGB, without alpha: what a person would see.

    `name` is what the user called it; `sha256` (hex) is of the bytes it was read from. `again` is
    what reads it once more where the name does not: a data: URI.
    """

    name: str
    pixels: "Pixels"
    sha256: str
    again: str = ""

    @property
    def width(self) -> int:
        return self.pixels.width

    @property
    def height(self) -> int:
        return self.pixels.height


@dataclass(frozen=True, slots=True)
class Video:
    """Frames of one clip in the order of time, each as an Image is, and of one size.

    `times_s` are those of the frames, `duration_s` is that of the whole clip, in seconds. `sha256`
    (hex) is of the file; "" where no record is made of the answer.
    """

    name: str
    frames: tuple["Pixels", ...]
    times_s: tuple[float, ...]
    duration_s: float
    sha256: str = ""

    @property
    def width(self) -> int:
        return self.frames[0].width

    @property
    def height(self) -> int:
        return self.frames[0].height


@dataclass(frozen=True, slots=True)
class Outline:
    """What is left of pixels that nobody looks at any more: their size."""

    width: int
    height: int


Part = Text | Image | Video


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation: who speaks, and texts, images and clips in the order they are
    seen."""

    role: Role
    content: tuple[Part, ...]

    @property
    def images(self) -> tuple[Image, ...]:
        return tuple(part for part in self.content if isinstance(part, Image))

    @property
    def videos(self) -> tuple[Video, ...]:
        return tuple(part for part in self.content if isinstance(part, Video))

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(part.text for part in self.content if isinstance(part, Text))


def system(text: str) -> Message:
    """Instructions that hold for the whole conversation."""
    return Message("system", (Text(text),))


def user(text: str | Text, seen: Sequence[Image | Video] = ()) -> Message:
    """A question about pictures and clips, which come first: models are trained on that order."""
    return Message("user", (*seen, text if isinstance(text, Text) else Text(text)))


def images_of(conversation: Sequence[Message]) -> tuple[Image, ...]:
    """Every picture of a conversation, in order."""
    return tuple(image for message in conversation for image in message.images)


def seen_of(conversation: Sequence[Message]) -> tuple[Image | Video, ...]:
    """Every picture and clip of a conversation, in order."""
    return tuple(p for message in conversation for p in message.content if not isinstance(p, Text))


def outlined(conversation: Sequence[Message]) -> list[Message]:
    """The conversation without the pixels of its pictures: enough for a record of its answer."""
    return [
        Message(
            message.role,
            tuple(
                replace(part, pixels=cast("Pixels", Outline(part.width, part.height)))
                if isinstance(part, Image)
                else part
                for part in message.content
            ),
        )
        for message in conversation
    ]


def videos_of(conversation: Sequence[Message]) -> tuple[Video, ...]:
    """Every clip of a conversation, in order."""
    return tuple(video for message in conversation for video in message.videos)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the answer is chosen, token by token.

    `temperature` 0 is greedy. None leaves a choice to the model's own generation settings.
    `stop` ends the answer before any of these strings. `schema` is a JSON schema, as JSON, that the
    answer has to be valid against.
    """

    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema: str | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of the answer; whole characters only."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """The next piece of what a reasoning model thinks before it answers: no part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The end of an answer; comes last, exactly once.

    `image_tokens` is None for the families whose pictures take no place in the prompt (BLIP, GIT).
    `cached_tokens` of the prompt were read for an earlier turn and not again; `new_tokens` counts
    the thoughts too. `seed` is what repeats the answer, if its tokens were drawn at random. Of
    `features` of pictures, where they are kept, `cached_features` were on the disk; of answers that
    were made `together` the times are those of all of them. `phases` are seconds by name: what
    there was to do since the answer before, up to this one.
    """

    reason: FinishReason
    prompt_tokens: int
    image_tokens: int | None
    new_tokens: int
    seconds_to_first_token: float
    seconds: float
    cached_tokens: int = 0
    seed: int | None = None
    features: int = 0
    cached_features: int = 0
    together: int = 1
    phases: Mapping[str, float] = field(default_factory=dict)


Chunk = Delta | Thought | Done


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; `reasoning` is what was thought before it, "" if nothing was.

    `probabilities` are those of the choices, if it was one of several.
    """

    text: str
    reasoning: str
    done: Done
    probabilities: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """How likely a model begins its answer with yes, and with no: from 0 to 1, together at most 1.

    The rest is of answers that are neither.
    """

    yes: float
    no: float
    done: Done

    @property
    def true(self) -> float:
        """How likely yes is, of the two."""
        return self.yes / (self.yes + self.no) if self.yes + self.no else 0.5


@dataclass(frozen=True, slots=True)
class Chosen:
    """How likely each choice is as the whole answer, in the order given; together they are 1."""

    probabilities: tuple[float, ...]
    done: Done
