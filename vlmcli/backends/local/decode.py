"""Tokens -> Delta: text as it comes, stop strings, loops; on a thread that stops when asked."""

import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation.streamers import BaseStreamer

from vlmcli.backends.local.inputs import Prompt
from vlmcli.backends.local.processors import Processor
from vlmcli.messages import Chunk, Delta, Done, FinishReason, Sampling

# A text is taken to loop when its last tokens are one pattern over and over: this many tokens in
# all, and so many times. Rows of a table repeat too, but not to the letter for that long.
LOOP_TOKENS = 64
LOOP_REPEATS = 8
# Below it, logits divided by the temperature overflow; the likeliest token is certain long before.
LEAST_TEMPERATURE = 0.001

LONG_PATTERN, LONG_PATTERN_REPEATS = 32, 4


class _Finished(Exception):  # noqa: N818 - no error: the way out of transformers' loop
    """Leaves `generate` at once, from its streamer."""


class Words:
    """Tokens in, text out: whole characters, as soon as they are sure.

    Only the last few tokens are decoded again each time: those of the piece of text before, whose
    end decides how the next one joins on, and those of the piece that is being made.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._before: list[int] = []
        self._next: list[int] = []
        # Tokenizers that tidy up spaces (BERT's) rewrite what came before: all at the end then.
        self._tidies = bool(getattr(tokenizer, "clean_up_tokenization_spaces", False))

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
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
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
        keep = max((self._overlap(stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        sure, self._held = self._held[:cut], self._held[cut:]
        return sure

    def flush(self) -> str:
        rest, self._held = self._held, ""
        return rest

    def _overlap(self, stop: str) -> int:
        """How many of the last characters are the first ones of `stop`."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if self._held.endswith(stop[:n])), 0)


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


def loops(ids: list[int]) -> bool:
    """Whether the last tokens are one pattern repeated, as in degenerate generation."""
    for period in range(1, len(ids) // LONG_PATTERN_REPEATS + 1):
        repeats = LONG_PATTERN_REPEATS if period >= LONG_PATTERN else LOOP_REPEATS
        length = max(period * repeats, LOOP_TOKENS)
        # The last token alone rules out nearly every period.
        if length > len(ids) or ids[-1] != ids[-1 - period]:
            continue
        tail = ids[-length:]
        if tail[period:] == tail[:-period]:
            return True
    return False


class _Sink(BaseStreamer):  # type: ignore[misc]
    """What `generate` hands its tokens to: makes text of them and decides when it is enough."""

    def __init__(self, words: Words, stops: Stops, emit: Callable[[str], None]) -> None:
        self._words, self._stops = words, stops
        edges = Edges()

        def give(text: str) -> None:
            emit(edges.push(text))

        self._emit = give
        self._prompt_came = False
        self.ids: list[int] = []
        self.reason: FinishReason | None = None
        self.first_token_at: float | None = None

    def put(self, value: torch.Tensor) -> None:
        # The prompt comes first (the start token of an encoder-decoder), then each new token.
        if not self._prompt_came:
            self._prompt_came = True
            return
        for token in value.flatten().tolist():
            self._take(token)

    def _take(self, token: int) -> None:
        self.first_token_at = self.first_token_at or time.perf_counter()
        self.ids.append(token)
        self._emit(self._stops.push(self._words.push(token)))
        if self._stops.found:
            self.reason = "stop"
        elif loops(self.ids):
            self.reason = "loop"
        if self.reason:
            raise _Finished

    def end(self) -> None:
        """Called by `generate` after the last token; the rest is flushed by `generate_text`."""

    def flush(self) -> None:
        if not self._stops.found:
            self._emit(self._stops.push(self._words.flush()))
        if not self._stops.found:
            self._emit(self._stops.flush())


def generate_text(
    model: Any,
    processor: Processor,
    prompt: Prompt,
    sampling: Sampling,
    emit: Callable[[str], None],
) -> Done:
    """Answer one prompt, giving the text to `emit` as it comes; what `emit` raises ends it."""
    started = time.perf_counter()
    config = generation_config(model, processor, prompt, sampling)
    if sampling.seed is not None:
        torch.manual_seed(sampling.seed)
    sink = _Sink(Words(processor.tokenizer), Stops(sampling.stop), emit)
    try:
        with torch.inference_mode():
            model.generate(
                **_on_device(prompt.inputs, model), generation_config=config, streamer=sink
            )
    except _Finished:
        pass
    sink.flush()
    ended = time.perf_counter()
    full = len(sink.ids) >= config.max_new_tokens
    return Done(
        reason=sink.reason or ("length" if full and not _ends(sink.ids, config) else "stop"),
        prompt_tokens=prompt.prompt_tokens,
        image_tokens=prompt.image_tokens,
        new_tokens=len(sink.ids),
        seconds_to_first_token=(sink.first_token_at or ended) - started,
        seconds=ended - started,
    )


def generation_config(
    model: Any, processor: Processor, prompt: Prompt, sampling: Sampling
) -> GenerationConfig:
    """The model's own generation settings with the user's on top; one beam, so that it streams."""
    own = model.generation_config
    ends = _union(own.eos_token_id, processor.tokenizer.eos_token_id)
    room = sampling.max_tokens
    if processor.context_tokens is not None:
        room = max(1, min(room, processor.context_tokens - prompt.prompt_tokens))
    changed = {
        **own.to_diff_dict(),
        "eos_token_id": ends or None,
        "pad_token_id": own.pad_token_id if own.pad_token_id is not None else min(ends, default=0),
        "max_new_tokens": room,
        "max_length": None,
        "num_beams": 1,
        "early_stopping": False,
        "length_penalty": 1.0,
        "do_sample": sampling.temperature >= LEAST_TEMPERATURE,
        "temperature": sampling.temperature or None,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
    }
    if not changed["do_sample"]:
        changed |= {"temperature": None, "top_p": None, "top_k": None, "min_p": None}
    if sampling.repetition_penalty is not None:
        changed["repetition_penalty"] = sampling.repetition_penalty
    return GenerationConfig(**changed)


def _union(*ends: int | list[int] | None) -> list[int]:
    """The end tokens of both: a model's settings and its tokenizer do not always agree."""
    found = {n for end in ends for n in ([end] if isinstance(end, int) else end or [])}
    return sorted(found)


def _ends(ids: list[int], config: GenerationConfig) -> bool:
    return bool(ids) and ids[-1] in _union(config.eos_token_id)


def _on_device(inputs: dict[str, Any], model: Any) -> dict[str, Any]:
    """Tensors where the model is; pixels in its number format, token ids as they are."""
    return {
        key: value.to(model.device, model.dtype if value.is_floating_point() else None)
        if isinstance(value, torch.Tensor)
        else value
        for key, value in inputs.items()
    }


def stream(run: Callable[[Callable[[str], None]], Done]) -> Iterator[Chunk]:
    """Yield what `run(emit)` emits on a worker thread, then what it returns; raise what it raises.

    Closing the iterator makes the next `emit` raise on the worker, which ends its work.
    """
    queue: SimpleQueue[Chunk | BaseException] = SimpleQueue()
    closed = Event()

    def emit(text: str) -> None:
        if closed.is_set():
            raise _Finished
        if text:
            queue.put(Delta(text))

    def work() -> None:
        try:
            queue.put(run(emit))
        except BaseException as error:  # handed to the reader, which raises it
            queue.put(error)

    Thread(target=work, daemon=True).start()
    try:
        while not isinstance(item := queue.get(), Done):
            if isinstance(item, BaseException):
                raise item
            yield item
        yield item
    finally:
        closed.set()
