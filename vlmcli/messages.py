"""The vocabulary that every part of the program speaks: messages in, chunks of an answer out.

Standard library only, so that anything can import it at no cost.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

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


Part = Text | Image


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation: who speaks, and texts and images in the order they are seen."""

    role: Role
    content: tuple[Part, ...]

    @property
    def images(self) -> tuple[Image, ...]:
        return tuple(part for part in self.content if isinstance(part, Image))

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(part.text for part in self.content if isinstance(part, Text))


def system(text: str) -> Message:
    """Instructions that hold for the whole conversation."""
    return Message("system", (Text(text),))


def user(text: str | Text, images: Sequence[Image] = ()) -> Message:
    """A question about pictures; the pictures come first, which is what models are trained on."""
    return Message("user", (*images, text if isinstance(text, Text) else Text(text)))


def images_of(conversation: Sequence[Message]) -> tuple[Image, ...]:
    """Every picture of a conversation, in order."""
    return tuple(image for message in conversation for image in message.images)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the answer is chosen, token by token.

    `temperature` 0 is greedy. None leaves a choice to the model's own generation settings.
    `stop` ends the answer before any of these strings.
    """

    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of the answer; whole characters only."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The end of an answer; comes last, exactly once.

    `image_tokens` is None for the families whose pictures take no place in the prompt (BLIP, GIT).
    """

    reason: FinishReason
    prompt_tokens: int
    image_tokens: int | None
    new_tokens: int
    seconds_to_first_token: float
    seconds: float


Chunk = Delta | Done
