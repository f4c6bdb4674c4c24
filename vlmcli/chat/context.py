"""Which turns a model still has room for. The newest always stays, and so does the system message.

Counted is what a text takes by itself, and each picture by itself: to lay all pictures out again
at each turn, only to count, would take longer than many an answer.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace

from vlmcli import wording
from vlmcli.backends import Engine
from vlmcli.chat.conversation import Seen, Turn, as_messages
from vlmcli.errors import VlmError
from vlmcli.messages import Text
from vlmcli.settings import Settings

_ANSWER_SHARE = 4
"""Of a small context, an answer is kept free this part at most."""

Cost = Callable[[Seen], int | None]


def tokens_of(
    turns: Sequence[Turn], system: str | None, settings: Settings, engine: Engine, cost: Cost
) -> int | None:
    """How long the prompt of these turns is; None if that cannot be told beforehand."""
    if engine.preview is None or not turns:
        return None
    try:
        said = as_messages([_only_words(turn) for turn in turns])
        words = engine.preview(wording.instructed(said, system, settings.lang)).prompt_tokens
        return words + sum(cost(one) or 0 for turn in turns for one in turn.seen)
    except VlmError:  # what is wrong is said when the question is asked
        return None


def room_for_answer(settings: Settings, limit: int) -> int:
    return min(settings.max_tokens, limit // _ANSWER_SHARE)


def crowded_out(turns: Sequence[Turn], fits: Callable[[Sequence[Turn]], bool]) -> int:
    """How many of the oldest turns have to go so that the rest fits; never the newest."""
    starts = range(len(turns) - 1)
    return bisect_left(starts, True, key=lambda start: fits(turns[start:]))


def _only_words(turn: Turn) -> Turn:
    words = tuple(part for part in turn.asked.content if isinstance(part, Text))
    return replace(turn, asked=replace(turn.asked, content=words or (Text("x"),)))
