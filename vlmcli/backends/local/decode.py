"""Tokens -> Thought and Delta: text as it comes, stop strings, loops; on a thread that stops when
asked."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from threading import Event
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from vlmcli.backends.local import loop
from vlmcli.backends.local.cache import Memory, Start
from vlmcli.backends.local.constraint import Constraint
from vlmcli.backends.local.inputs import REFUSALS, Prompt
from vlmcli.backends.local.pixels import reaching
from vlmcli.backends.local.processors import Processor
from vlmcli.backends.local.sampling import ends_of, generation_config, has_ended
from vlmcli.backends.local.thoughts import Piece, Thoughts, marks_of, special_marks
from vlmcli.backends.local.words import Edges, Stops, Words
from vlmcli.cpu import worker
from vlmcli.messages import Chunk, Delta, Done, FinishReason, Sampling, Thought

# A text is taken to loop when its last tokens are one pattern over and over: this many tokens in
# all, and so many times. Rows of a table repeat too, but not to the letter for that long.
LOOP_TOKENS = 64
LOOP_REPEATS = 8
LONG_PATTERN, LONG_PATTERN_REPEATS = 32, 4

Emit = Callable[[Piece], None]
_UNWATCHED: Mapping[int, LogitsProcessor] = {}


class Finished(Exception):  # noqa: N818 - no error: the way out of transformers' loop
    """Leaves `generate` at once, from its streamer."""


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


class Sink(BaseStreamer):  # type: ignore[misc]
    """What tokens are handed to: makes text of them and decides when it is enough."""

    def __init__(
        self,
        processor: Processor,
        thoughts: Thoughts,
        stops: Stops,
        emit: Emit,
        constraint: Constraint | None = None,
    ) -> None:
        self.constraint = constraint
        self._new_words = partial(Words, processor.tokenizer, literal=constraint is not None)
        self._words = self._new_words()
        self._marks = special_marks(processor)
        self._thoughts, self._stops, self._emit = thoughts, stops, emit
        self._edges = {Thought: Edges(), Delta: Edges()}
        self._prompt_came = False
        self.ids: list[int] = []
        self.reason: FinishReason | None = None
        self.first_token_at: float | None = None
        self.last_token_at: float | None = None

    def put(self, value: torch.Tensor) -> None:
        # The prompt comes first (the start token of an encoder-decoder), then each new token.
        if not self._prompt_came:
            self._prompt_came = True
            return
        for token in value.flatten().tolist():
            if self.take(token):
                raise Finished

    def take(self, token: int) -> bool:
        """Go on by a token; whether it is enough now."""
        self.last_token_at = time.perf_counter()
        self.first_token_at = self.first_token_at or self.last_token_at
        self.ids.append(token)
        self._give(self._thoughts.push(self._text(token)))
        if self.constraint is not None:
            self.constraint.take(token)
        if self._stops.found or (self.constraint is not None and self.constraint.complete):
            self.reason = "stop"
        elif loops(self.ids):
            self.reason = "loop"
        return self.reason is not None

    def _text(self, token: int) -> str:
        mark = self._marks.get(token, "")
        if not mark or not self._thoughts.takes(mark):
            return self._words.push(token)
        text = self._words.flush() + mark
        self._words = self._new_words()
        return text

    def _give(self, pieces: list[Piece]) -> None:
        self._emit(Delta(""))  # half a character, or of a mark: the work can be stopped here too
        for piece in pieces:
            text = piece.text if isinstance(piece, Thought) else self._stops.push(piece.text)
            self._emit(type(piece)(self._edges[type(piece)].push(text)))

    def restart(self) -> None:
        """The prompt comes once more; nothing has come after it yet."""
        self._prompt_came = False

    def end(self) -> None:
        """Called by `generate` after the last token; the rest is flushed by `generate_text`."""

    def flush(self) -> None:
        if not self._stops.found:
            self._give(self._thoughts.push(self._words.flush()))
            self._give(self._thoughts.flush())
        if not self._stops.found:
            self._emit(Delta(self._edges[Delta].push(self._stops.flush())))


@dataclass(frozen=True, slots=True)
class Begun:
    """An answer that is being given; `seed` is None where nothing is drawn."""

    prompt: Prompt
    config: GenerationConfig
    sink: Sink
    seed: int | None

    @property
    def held_to(self) -> LogitsProcessorList:
        """What changes which token may come next."""
        constraint = self.sink.constraint
        return LogitsProcessorList([] if constraint is None else [constraint])

    def row(self, device: torch.device, watch: LogitsProcessor | None = None) -> loop.Row:
        """It as one of several; `watch` sees what may come next before it is changed."""
        generator = None
        if self.seed is not None:
            generator = torch.Generator(device).manual_seed(self.seed)
        held = self.held_to if watch is None else LogitsProcessorList([watch, *self.held_to])
        return loop.Row(self.sink.take, self.config.max_new_tokens, held, generator)

    def done(self, started: float, ended: float, cached_tokens: int = 0) -> Done:
        """Its end; the times are those of time.perf_counter()."""
        ids = self.sink.ids
        full = len(ids) >= self.config.max_new_tokens and not has_ended(ids, self.config)
        return Done(
            reason=self.sink.reason or ("length" if full else "stop"),
            prompt_tokens=self.prompt.prompt_tokens,
            image_tokens=self.prompt.image_tokens,
            new_tokens=len(ids),
            seconds_to_first_token=(self.sink.first_token_at or ended) - started,
            seconds=ended - started,
            cached_tokens=cached_tokens,
            seed=self.seed,
        )


def begin(
    model: Any, processor: Processor, prompt: Prompt, sampling: Sampling, emit: Emit
) -> Begun:
    """An answer to a prompt, whose tokens its `sink` has to be given; text goes to `emit`."""
    config = generation_config(model, processor, prompt, sampling)
    seed = sampling.seed if config.do_sample else None
    if seed is None and config.do_sample:
        seed = secrets.randbits(32)  # so that what was drawn can be drawn again
    marks, opened = marks_of(processor, prompt)
    thoughts = Thoughts(marks, opened)
    constraint = None
    if sampling.schema is not None:
        constraint = Constraint(processor, sampling.schema, thoughts, marks, ends_of(config))
    sink = Sink(processor, thoughts, Stops(sampling.stop), emit, constraint)
    return Begun(prompt, config, sink, seed)


def generate_text(
    model: Any,
    processor: Processor,
    prompt: Prompt,
    sampling: Sampling,
    emit: Emit,
    memory: Memory | None = None,
) -> Done:
    """Answer one prompt, giving the text to `emit` as it comes; what `emit` raises ends it.

    What `memory` holds of an earlier prompt is not read again, and it is given this one to hold.
    """
    started = time.perf_counter()
    answer = begin(model, processor, prompt, sampling, emit)
    give = _by_our_loop if loops_here(model, processor) else _by_generate
    with torch.inference_mode():
        start = Start(prompt.inputs) if memory is None else memory.start(prompt.inputs)
        try:
            give(model, start, answer)
        except REFUSALS:
            if memory is None or not start.cached_tokens or answer.sink.ids:
                raise
            # No family is known to come here. What can be answered must not fail over a saving.
            memory.give_up()
            start = Start(prompt.inputs)
            answer.sink.restart()
            give(model, start, answer)
        if memory is not None:
            memory.keep(start, answer.sink.ids)
    answer.sink.flush()
    return answer.done(started, time.perf_counter(), start.cached_tokens)


def _by_our_loop(model: Any, start: Start, answer: Begun) -> None:
    with suppress(Finished), reaching(model, start.new_pictures):
        inputs = on_device(start.inputs, model)
        loop.answer(model, inputs, answer.config, [answer.row(model.device)])


def _by_generate(model: Any, start: Start, answer: Begun) -> None:
    if answer.seed is not None:
        torch.manual_seed(answer.seed)
    with suppress(Finished), reaching(model, start.new_pictures):
        model.generate(
            **on_device(start.inputs, model),
            generation_config=answer.config,
            logits_processor=answer.held_to,
            streamer=answer.sink,
        )


def loops_here(model: Any, processor: Processor) -> bool:
    """Whether a model answers in our own `loop`."""
    # Elsewhere than on a CPU it was never timed beside that of `generate`.
    return model.device.type == "cpu" and loop.suits(model, processor)


def generate_texts(
    model: Any,
    processor: Processor,
    prompts: Sequence[Prompt],
    inputs: dict[str, Any],
    sampling: Sampling,
    emits: Sequence[Emit],
    watches: Mapping[int, LogitsProcessor] = _UNWATCHED,
) -> list[Done]:
    """Answer prompts side by side, giving the text of each to its own of `emits`; what one of them
    raises ends all.

    `inputs` are those of all prompts, a row each, filled up at their left where they differ in
    length; their attention mask says where. `watches` see what may come next in a row, given that
    row alone. The model is one that `loops_here`.
    """
    started = time.perf_counter()
    answers = [
        begin(model, processor, prompt, sampling, emit)
        for prompt, emit in zip(prompts, emits, strict=True)
    ]
    rows = [answer.row(model.device, watches.get(n)) for n, answer in enumerate(answers)]
    with torch.inference_mode():
        loop.answer(model, on_device(inputs, model), answers[0].config, rows)
    for answer in answers:
        answer.sink.flush()
    return [
        answer.done(started, answer.sink.last_token_at or time.perf_counter()) for answer in answers
    ]


def on_device(inputs: dict[str, Any], model: Any) -> dict[str, Any]:
    """Tensors where the model is; pixels in its number format, token ids as they are."""
    return {
        key: value.to(model.device, model.dtype if value.is_floating_point() else None)
        if isinstance(value, torch.Tensor)
        else value
        for key, value in inputs.items()
    }


def stream(run: Callable[[Emit], Done]) -> Iterator[Chunk]:
    """Yield what `run(emit)` emits on the worker, then what it returns; raise what it raises.

    Closing the iterator makes the next `emit` raise on the worker, which ends its work.
    """
    queue: SimpleQueue[Chunk | BaseException] = SimpleQueue()
    closed = Event()

    def emit(piece: Piece) -> None:
        if closed.is_set():
            raise Finished
        if piece.text:
            queue.put(piece)

    def work() -> None:
        try:
            queue.put(run(emit))
        except BaseException as error:  # handed to the reader, which raises it
            queue.put(error)

    worker.begin(work)
    try:
        while not isinstance(item := queue.get(), Done):
            if isinstance(item, BaseException):
                raise item
            yield item
        yield item
    finally:
        closed.set()
