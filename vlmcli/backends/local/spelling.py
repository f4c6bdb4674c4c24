"""How likely a model says a text, in whatever tokens: the sum over all ways to spell it.

A text has one canonical spelling and many others, and a model may prefer one of those. All of them
are a tree of token prefixes. It is walked from the likeliest prefix on, until what is left of it
cannot change any share by more than PRECISION.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

import torch

from vlmcli.backends.local.branches import Path, Reading

PRECISION = 1e-4
"""How far, at most, a text's share of the probability of all the texts is off."""

_ROUND = 32
"""Prefixes that are followed at a time."""


@dataclass(frozen=True, slots=True, order=True)
class _Prefix:
    """The first tokens of an answer, what they say, and the logarithm of their probability."""

    rank: float  # -chance, so that the likeliest is the first
    path: Path
    said: bytes

    @property
    def chance(self) -> float:
        return -self.rank


@dataclass(slots=True)
class Tree:
    """All spellings of some choices, each of which has several forms.

    `pieces` are the tokens by what they say. A choice is whole at one of the tokens `ends` or,
    where there are none, as soon as it is said.
    """

    choices: Sequence[Sequence[bytes]]
    pieces: Mapping[bytes, Sequence[int]]
    ends: Sequence[int] = ()
    read_tokens: int = field(default=0, init=False)
    _owners: Mapping[bytes, int] = field(init=False)
    _texts: list[bytes] = field(init=False)
    _longest_piece: int = field(init=False)
    _found: list[list[float]] = field(init=False)
    _open: list[_Prefix] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._owners = {form: n for n, forms in enumerate(self.choices) for form in forms}
        self._texts = sorted(self._owners)
        self._longest_piece = max(map(len, self.pieces))
        self._found = [[] for _ in self.choices]

    @property
    def longest_spelling(self) -> int:
        """The most tokens that a choice takes if it is spelt in long ones."""
        return max(len(list(self._spelling(text))) for text in self._texts)

    def walk(self, reading: Reading) -> list[float]:
        """The logarithm of the probability of each choice, by its number."""
        self._take(_Prefix(0.0, (), b""), reading.first)
        while batch := self._likeliest():
            paths = [(*prefix.path, *self._spelling(self._rest(prefix.said))) for prefix in batch]
            self.read_tokens += sum(map(len, paths))
            for prefix, path, after in zip(batch, paths, reading.follow(paths), strict=True):
                self._take_path(prefix, path, after)
        return [_total(chances) for chances in self._found]

    def _likeliest(self) -> list[_Prefix]:
        """The likeliest prefixes that were not followed, as many as still matter."""
        found = _total(chance for chances in self._found for chance in chances)
        left = _total(prefix.chance for prefix in self._open)
        unit = max(found, left)
        if unit == -math.inf:
            return []
        rest = math.exp(left - unit)
        enough = PRECISION * (math.exp(found - unit) + rest)
        batch: list[_Prefix] = []
        while self._open and rest > enough and len(batch) < _ROUND:
            batch.append(heappop(self._open))
            rest -= math.exp(batch[-1].chance - unit)
        return batch

    def _take_path(self, prefix: _Prefix, path: Path, after: torch.Tensor) -> None:
        """Take a prefix, and all that come after it on the path; `after` is what each token of the
        path is followed by."""
        for at in range(len(prefix.path), len(path)):
            token = path[at]
            self._take(prefix, after[at - 1], besides=token)
            said = prefix.said + self._next(prefix.said)[token]
            chance = prefix.chance + float(after[at - 1, token])
            prefix = _Prefix(-chance, path[: at + 1], said)
        self._take(prefix, after[-1])

    def _take(self, prefix: _Prefix, after: torch.Tensor, besides: int | None = None) -> None:
        """Note what a prefix is if it ends here, and open those that go on, but for one token."""
        if prefix.said in self._owners:
            end = float(after[list(self.ends)].logsumexp(0)) if self.ends else 0.0
            self._found[self._owners[prefix.said]].append(prefix.chance + end)
            if not self.ends:
                return
        pieces = self._next(prefix.said)
        chances = after[list(pieces)].tolist()
        for (token, piece), chance in zip(pieces.items(), chances, strict=True):
            if token == besides or chance == -math.inf:
                continue
            longer = _Prefix(prefix.rank - chance, (*prefix.path, token), prefix.said + piece)
            if not self.ends and longer.said in self._owners:
                self._found[self._owners[longer.said]].append(longer.chance)
            else:
                heappush(self._open, longer)

    def _next(self, said: bytes) -> dict[int, bytes]:
        """The tokens that may come after what was said, and what they add."""
        rests = [text[len(said) :] for text in self._beginning_with(said)]
        starts = {
            rest[:n] for rest in rests for n in range(1, min(len(rest), self._longest_piece) + 1)
        }
        return {token: start for start in starts for token in self.pieces.get(start, ())}

    def _spelling(self, rest: bytes) -> Iterator[int]:
        """A spelling of a text in tokens as long as there are."""
        while rest:
            lengths = range(min(len(rest), self._longest_piece), 0, -1)
            start = next((rest[:n] for n in lengths if rest[:n] in self.pieces), None)
            if start is None:
                return  # no token says the next byte
            yield self.pieces[start][-1]  # bytes come first in vocabularies, and are said last
            rest = rest[len(start) :]

    def _rest(self, said: bytes) -> bytes:
        """What completes one of the texts that begin with what was said."""
        return next(self._beginning_with(said))[len(said) :]

    def _beginning_with(self, said: bytes) -> Iterator[bytes]:
        at = bisect_left(self._texts, said)
        while at < len(self._texts) and self._texts[at].startswith(said):
            yield self._texts[at]
            at += 1


def _total(chances: Iterable[float]) -> float:
    """The logarithm of a sum of probabilities, each given as its logarithm."""
    values = [chance for chance in chances if chance > -math.inf]
    most = max(values, default=-math.inf)
    if most == -math.inf:
        return most
    return most + math.log(math.fsum(math.exp(value - most) for value in values))
