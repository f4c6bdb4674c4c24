"""Tokens -> text as it comes, cut where it is to stop and at its edges."""

from typing import Any

from vlmcli.backends.local.thoughts import overlap


class Words:
    """Tokens in, text out: whole characters, as soon as they are sure.

    Only the last few tokens are decoded again each time: those of the piece of text before, whose
    end decides how the next one joins on, and those of the piece that is being made.
    """

    def __init__(self, tokenizer: Any, *, literal: bool = False) -> None:
        self._tokenizer = tokenizer
        self._before: list[int] = []
        self._next: list[int] = []
        # Tokenizers that tidy up spaces (BERT's) rewrite what came before: all at the end then.
        # `literal` text is left as it is.
        tidies = getattr(tokenizer, "clean_up_tokenization_spaces", False)
        self._tidies = bool(tidies) and not literal

    def push(self, token: int) -> str:
        self._next.append(token)
        text = "" if self._tidies else self._new_text()
        if not text or text.endswith("\ufffd"):  # bytes of a character that is not all there
            return ""
        self._before, self._next = self._next, []
        return text

    def flush(self) -> str:
        """What is left: the whole for tidying tokenizers, else the bytes of a broken character."""
        return self._new_text()

    def _new_text(self) -> str:
        start = len(self._decode(self._before))
        return self._decode(self._before + self._next)[start:]

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=self._tidies
        )
        return text


class Stops:
    """Text in, text out, up to the first stop string; holds back what may be the start of one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        if self.found:
            return ""
        self._held += text
        # The one that is complete first, however the text was cut into pieces.
        places = [
            (start + len(stop), start)
            for stop in self._stops
            if (start := self._held.find(stop)) >= 0
        ]
        if places:
            self.found = True
            sure, self._held = self._held[: min(places)[1]], ""
            return sure
        keep = max((overlap(self._held, stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        sure, self._held = self._held[:cut], self._held[cut:]
        return sure

    def flush(self) -> str:
        rest, self._held = self._held, ""
        return rest


class Edges:
    """Text in, text out, without the white space before the first and after the last word.

    Many models begin every answer with a space.
    """

    def __init__(self) -> None:
        self._begun = False
        self._held = ""

    def push(self, text: str) -> str:
        text = self._held + text
        if not self._begun:
            text = text.lstrip()
        sure = text.rstrip()
        self._held = text[len(sure) :]
        self._begun = self._begun or bool(sure)
        return sure
