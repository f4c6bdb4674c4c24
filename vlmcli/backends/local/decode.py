"""Tokens -> Thought and Delta: text as it comes, stop strings, loops; on a thread that stops when
asked."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation.streamers import BaseStreamer

from vlmcli.backends.local.cache import Memory, Start
from vlmcli.backends.local.constraint import Constraint
from vlmcli.backends.local.inputs import REFUSALS, Prompt
from vlmcli.backends.local.pixels import reaching
from vlmcli.backends.local.processors import Processor
from vlmcli.backends.local.sampling import ends_of, generation_config, has_ended
from vlmcli.backends.local.thoughts import Piece, Thoughts, marks_of, special_marks
from vlmcli.backends.local.words import Edges, Stops, Words
from vlmcli.messages import Chunk, Delta, Done, FinishReason, Sampling, Thought

# A text is taken to loop when its last tokens are one pattern over and over: this many tokens in
# all, and so many times. Rows of a table repeat too, but not to the letter for that long.
LOOP_TOKENS = 64
LOOP_REPEATS = 8
LONG_PATTERN, LONG_PATTERN_REPEATS = 32, 4


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
    """What `generate` hands its tokens to: makes text of them and decides when it is enough.

    It raises Finished then.
    """

    def __init__(
        self,
        processor: Processor,
        thoughts: Thoughts,
        stops: Stops,
        emit: Callable[[Piece], None],
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

    def put(self, value: torch.Tensor) -> None:
        # The prompt comes first (the start token of an encoder-decoder), then each new token.
        if not self._prompt_came:
            self._prompt_came = True
            return
        for token in value.flatten().tolist():
            self.take(token)

    def take(self, token: int) -> None:
        self.first_token_at = self.first_token_at or time.perf_counter()
        self.ids.append(token)
        self._give(self._thoughts.push(self._text(token)))
        if self.constraint is not None:
            self.constraint.take(token)
        if self._stops.found or (self.constraint is not None and self.constraint.complete):
            self.reason = "stop"
        elif loops(self.ids):
            self.reason = "loop"
        if self.reason:
            raise Finished

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


def sink_of(
    processor: Processor,
    prompt: Prompt,
    sampling: Sampling,
    config: GenerationConfig,
    emit: Callable[[Piece], None],
) -> Sink:
    """Where the tokens of the answer to one prompt go; their text is given to `emit`."""
    marks, opened = marks_of(processor, prompt)
    thoughts = Thoughts(marks, opened)
    constraint = None
    if sampling.schema is not None:
        ends = ends_of(config)
        constraint = Constraint(processor, sampling.schema, thoughts, marks, ends)
    return Sink(processor, thoughts, Stops(sampling.stop), emit, constraint)


def reason_of(ids: list[int], config: GenerationConfig) -> FinishReason:
    """Why an answer ended that nothing broke off."""
    full = len(ids) >= config.max_new_tokens
    return "length" if full and not has_ended(ids, config) else "stop"


def generate_text(
    model: Any,
    processor: Processor,
    prompt: Prompt,
    sampling: Sampling,
    emit: Callable[[Piece], None],
    memory: Memory | None = None,
) -> Done:
    """Answer one prompt, giving the text to `emit` as it comes; what `emit` raises ends it.

    What `memory` holds of an earlier prompt is not read again, and it is given this one to hold.
    """
    started = time.perf_counter()
    config = generation_config(model, processor, prompt, sampling)
    seed = sampling.seed
    if seed is None and config.do_sample:
        seed = secrets.randbits(32)  # so that what was drawn can be drawn again

    sink = sink_of(processor, prompt, sampling, config, emit)
    held_to = [] if sink.constraint is None else [sink.constraint]

    def answer(start: Start) -> None:
        if seed is not None:
            torch.manual_seed(seed)
        with suppress(Finished), reaching(model, start.new_pictures):
            model.generate(
                **on_device(start.inputs, model),
                generation_config=config,
                **({"logits_processor": held_to} if held_to else {}),
                streamer=sink,
            )

    with torch.inference_mode():
        start = Start(prompt.inputs) if memory is None else memory.start(prompt.inputs)
        try:
            answer(start)
        except REFUSALS:
            if memory is None or not start.cached_tokens or sink.ids:
                raise
            # No family is known to come here. What can be answered must not fail over a saving.
            memory.give_up()
            start = Start(prompt.inputs)
            sink.restart()
            answer(start)
        if memory is not None:
            memory.keep(start, sink.ids)
    sink.flush()
    ended = time.perf_counter()
    return Done(
        reason=sink.reason or reason_of(sink.ids, config),
        prompt_tokens=prompt.prompt_tokens,
        image_tokens=prompt.image_tokens,
        new_tokens=len(sink.ids),
        seconds_to_first_token=(sink.first_token_at or ended) - started,
        seconds=ended - started,
        cached_tokens=start.cached_tokens,
        seed=seed if config.do_sample else None,
    )


def on_device(inputs: dict[str, Any], model: Any) -> dict[str, Any]:
    """Tensors where the model is; pixels in its number format, token ids as they are."""
    return {
        key: value.to(model.device, model.dtype if value.is_floating_point() else None)
        if isinstance(value, torch.Tensor)
        else value
        for key, value in inputs.items()
    }


def stream(run: Callable[[Callable[[Piece], None]], Done]) -> Iterator[Chunk]:
    """Yield what `run(emit)` emits on a worker thread, then what it returns; raise what it raises.

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

    Thread(target=work, daemon=True).start()
    try:
        while not isinstance(item := queue.get(), Done):
            if isinstance(item, BaseException):
                raise item
            yield item
        yield item
    finally:
        closed.set()
