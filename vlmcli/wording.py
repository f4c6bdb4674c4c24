"""The words that vlm itself puts into a conversation: caption prompts, and the language."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

from vlmcli import messages
from vlmcli.errors import UsageError
from vlmcli.messages import Message, Text

CAPTION_STYLES = {
    "short": "Describe this image in one short sentence.",
    "detailed": "Describe this image in detail: what is there, where, and what it looks like.",
    "alt": (
        "Write alt text for this image, for people who cannot see it: one or two plain sentences"
        " with what matters, not starting with 'image of'."
    ),
    "tags": "List keywords for this image, separated by commas, and nothing else.",
    "story": "Tell a short story that this image could illustrate.",
}

VIDEO = "Describe what happens in this video."
"""What is asked about a clip if nothing else is."""
SEQUENCE = "These are frames from a video in temporal order."
"""What stands before the frames of a clip for a model that knows pictures only."""

# By ISO 639-1 code: the English name, which every model knows, and the language's own.
LANGUAGES = {
    "ar": "Arabic (العربية)",
    "cs": "Czech (čeština)",
    "da": "Danish (dansk)",
    "de": "German (Deutsch)",
    "el": "Greek (ελληνικά)",
    "en": "English",
    "es": "Spanish (español)",
    "fa": "Persian (فارسی)",
    "fi": "Finnish (suomi)",
    "fr": "French (français)",
    "he": "Hebrew (עברית)",
    "hi": "Hindi (हिन्दी)",
    "hu": "Hungarian (magyar)",
    "id": "Indonesian (Bahasa Indonesia)",
    "it": "Italian (italiano)",
    "ja": "Japanese (日本語)",
    "ko": "Korean (한국어)",
    "nl": "Dutch (Nederlands)",
    "no": "Norwegian (norsk)",
    "pl": "Polish (polski)",
    "pt": "Portuguese (português)",
    "ro": "Romanian (română)",
    "ru": "Russian (русский)",
    "sv": "Swedish (svenska)",
    "th": "Thai (ไทย)",
    "tr": "Turkish (Türkçe)",
    "uk": "Ukrainian (українська)",
    "vi": "Vietnamese (Tiếng Việt)",
    "zh": "Chinese (中文)",
}


def caption(style: str) -> Text:
    """The prompt of a caption style, marked so that models without instructions know it."""
    return Text(CAPTION_STYLES[style], caption_style=style)


def shows(statement: str) -> str:
    """The question whether a picture shows something, to be answered with yes or no."""
    return f"Does this picture show {statement}? Answer with yes or no."


def frame_times(times_s: Sequence[float]) -> list[str]:
    """What stands before each frame of a clip: t=1.5s, or t=1.52s where they are that close."""
    gaps = [after - before for before, after in itertools.pairwise(times_s)]
    digits = 1 if min(gaps, default=1) >= 0.1 else 2
    return [f"t={time:.{digits}f}s" for time in times_s]


def instructed(
    conversation: Sequence[Message], system: str | None, language: str | None
) -> list[Message]:
    """The conversation under a system prompt, asking for an answer in a language (code or name).

    Raises UsageError for a text that no tokenizer can take: one with bytes that are not UTF-8.
    """
    asked = in_language(conversation, language) if language else list(conversation)
    if system:
        asked.insert(0, messages.system(system))
    for text in (text for message in asked for text in message.texts):
        if not text.isascii() and text.encode(errors="replace").decode() != text:
            raise UsageError(f"{text[:60]!r} is not valid UTF-8", hint="type it anew")
    return asked


def in_language(conversation: Sequence[Message], language: str) -> list[Message]:
    """The conversation, its last message asking for an answer in `language` (code or name)."""
    return _requesting(conversation, f"Answer in {LANGUAGES.get(language.lower(), language)}.")


def in_form(conversation: Sequence[Message], schema: str) -> list[Message]:
    """The conversation, its last message asking for JSON of the schema."""
    return _requesting(
        conversation, f"Answer with JSON of this schema, and with nothing else:\n{schema}"
    )


def _requesting(conversation: Sequence[Message], request: str) -> list[Message]:
    *before, last = conversation
    *parts, words = last.content
    if isinstance(words, Text):
        asked = (*parts, replace(words, text=f"{words.text}\n{request}"))
    else:
        asked = (*parts, words, Text(request))
    return [*before, replace(last, content=asked)]
