"""Steps in the order of the inputs; those that need a model's answer wait for it, several at once.

While the model is at work, threads decode the pictures that come next. How much they hold is
bounded by its bytes: a few pictures, or one that is huge.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from vlmcli import memory
from vlmcli.answers import Asked
from vlmcli.errors import VlmError
from vlmcli.inputs.ahead import Files, Pool
from vlmcli.inputs.pictures import Unread

T = TypeVar("T")

_PATIENCE_S = 1.0
"""How long a batch that is not full waits for its next picture: a list may come slowly."""
_MOST_BYTES = 1_000_000_000
_SHARE_OF_FREE = 8
_DECODING_BYTES = 8
"""Of a pixel, while it is decoded: there are copies."""


@dataclass(slots=True)
class Waiting(Generic[T]):
    """A picture that a model is to be asked about.

    `ready` makes what is asked, on a thread; `then` is told, in its turn, what was asked and what
    has become of it, or None and why it could not be asked.
    """

    picture: Unread
    ready: Callable[[], Asked]
    then: Callable[[Asked | None, T | VlmError], None]
    _future: "Future[Asked] | None" = field(default=None, init=False)

    @property
    def begun(self) -> bool:
        return self._future is not None

    @property
    def nbytes(self) -> int:
        """What is held of it, or may be."""
        future = self._future
        if future is None or not future.done() or future.exception() is not None:
            return _DECODING_BYTES * self.picture.pixels
        return future.result().nbytes

    def begin(self, pool: Pool) -> None:
        self._future = pool.submit(self.ready)

    def asked(self) -> Asked | VlmError:
        assert self._future is not None
        try:
            return self._future.result()
        except VlmError as error:
            return error


Step = Waiting[T] | Callable[[], None] | None
"""None: what comes next cannot be told before those that wait have their answers."""


@dataclass(slots=True)
class Line(Generic[T]):
    """All steps of a run.

    `answer` gives, one after the other, what becomes of several that are asked at once; it is given
    one, then two, then four, … up to `most()`. The run ends when `enough()`.
    """

    steps: Iterator[Step[T]]
    files: Files
    pool: Pool
    answer: Callable[[Sequence[Asked]], Iterator[T | VlmError]]
    most: Callable[[], int]
    enough: Callable[[], bool] = field(default=lambda: False)
    _waiting: deque[Waiting[T] | Callable[[], None]] = field(default_factory=deque, init=False)
    _ended: bool = field(default=False, init=False)
    _room_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        free = memory.main_free_bytes() // _SHARE_OF_FREE
        self._room_bytes = min(_MOST_BYTES, free)

    def run(self) -> None:
        """Take every step."""
        size = 1
        while not self.enough():
            size = min(size, self.most())
            self._pull(size, _PATIENCE_S)
            if not self._waiting:
                if self._ended:
                    return
                continue
            self._pull(3 * size, 0.0)  # the next batch, which may be twice as large
            self._answer_first(size)
            size = 2 * size if size < self.most() else size

    @property
    def _questions(self) -> list[Waiting[T]]:
        return [step for step in self._waiting if isinstance(step, Waiting)]

    def _pull(self, count: int, patience_s: float) -> None:
        """Have so many questions waiting, as far as there is room and they are there in time."""
        while not self._ended and self._begin() < count and not self.enough():
            questions = self._questions
            if questions and not (questions[-1].begun and self.files.ready(patience_s)):
                return
            step = next(self.steps, _END)
            if step is _END:
                self._ended = True
            elif step is None:
                return
            elif self._waiting or isinstance(step, Waiting):
                self._waiting.append(step)  # type: ignore[arg-type]
            else:
                step()  # type: ignore[operator]

    def _begin(self) -> int:
        """Begin with as many questions as there is room for; how many are waiting."""
        questions = self._questions
        held = sum(question.nbytes for question in questions if question.begun)
        for question in questions:
            if question.begun:
                continue
            if held and held + question.nbytes > self._room_bytes:
                break
            question.begin(self.pool)
            held += question.nbytes
        return len(questions)

    def _answer_first(self, size: int) -> None:
        """Answer the first questions, and take all steps up to what waits behind them."""
        steps: list[tuple[Waiting[T] | Callable[[], None], Asked | VlmError | None]] = []
        count = 0
        while self._waiting and (count < size or not isinstance(self._waiting[0], Waiting)):
            step = self._waiting[0]
            if isinstance(step, Waiting) and not step.begun:
                break
            self._waiting.popleft()
            steps.append((step, step.asked() if isinstance(step, Waiting) else None))
            count += isinstance(step, Waiting)
        several = [asked for _, asked in steps if isinstance(asked, Asked)]
        answers = self.answer(several)
        for step, asked in steps:
            if self.enough():
                return
            if not isinstance(step, Waiting):
                step()
            elif isinstance(asked, Asked):
                step.then(asked, next(answers))
            elif asked is not None:
                step.then(None, asked)


_END = object()
