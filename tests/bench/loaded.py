"""Models that are loaded already, against transformers' own `generate` with the same weights."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.generation.streamers import BaseStreamer

from tests.bench.figures import Figure, in_turn, seconds
from tests.bench.pictures import image, pixels, shapes
from vlmcli import answers, config, messages
from vlmcli.backends import Engine
from vlmcli.cpu import worker
from vlmcli.messages import Delta, Done, Message, Sampling

TOKENS = 64
_QUESTION = "Describe this image in one short sentence."
_SMALL = (200, 200)


class Clock(BaseStreamer):  # type: ignore[misc]
    """When each token came, the first put being the prompt."""

    def __init__(self) -> None:
        self.times_s: list[float] = []

    def put(self, value: Any) -> None:
        self.times_s.append(time.perf_counter())

    def end(self) -> None:
        pass


@dataclass(slots=True)
class Peer:
    """transformers as it comes: `generate` on what the processor makes by its defaults."""

    folder: Path
    dtype: torch.dtype = torch.bfloat16
    processor: Any = field(init=False)
    model: Any = field(init=False)

    def __post_init__(self) -> None:
        self.processor = AutoProcessor.from_pretrained(self.folder)
        self.model = AutoModelForImageTextToText.from_pretrained(self.folder, dtype=self.dtype)

    def inputs(self, seen: messages.Image, *, one_tile: bool) -> Any:
        content = [{"type": "image", "image": seen.pixels}, {"type": "text", "text": _QUESTION}]
        return self.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"size": {"longest_edge": 512}} if one_tile else {},
        ).to(self.model.dtype)

    def timed(self, seen: messages.Image, tokens: int, *, one_tile: bool) -> tuple[float, float]:
        """Seconds to the first token, preparing among them, and tokens a second after it."""
        clock = Clock()
        start_s = time.perf_counter()

        def run() -> None:
            inputs = self.inputs(seen, one_tile=one_tile)
            with torch.inference_mode():
                self.model.generate(
                    **inputs, max_new_tokens=tokens, do_sample=False, streamer=clock
                )

        worker.do(run)  # where all cores are its own
        _, first, *_, last = clock.times_s
        return first - start_s, (len(clock.times_s) - 2) / (last - first)

    def text(self, seen: messages.Image, tokens: int) -> str:
        inputs = self.inputs(seen, one_tile=True)
        with torch.inference_mode():
            made = self.model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        new = made[0, inputs["input_ids"].shape[1] :]
        return str(self.processor.decode(new, skip_special_tokens=True)).strip()


def engine(folder: Path | str, **flags: object) -> Engine:
    """A model as the commands load it; what it saw before is not kept on the disk."""
    return answers.load(config.load({"model": str(folder), "cache": False, **flags}))


def asked(seen: messages.Image) -> list[Message]:
    return [messages.user(_QUESTION, [seen])]


def timed(model: Engine, seen: messages.Image, tokens: int) -> tuple[float, float]:
    """Seconds to the first token, preparing among them, and tokens a second after it."""
    start_s = time.perf_counter()
    chunks = model.generate(asked(seen), Sampling(max_tokens=tokens))
    pieces = list(chunks)
    whole_s = time.perf_counter() - start_s
    done = pieces[-1]
    assert isinstance(done, Done)
    decode_s = done.seconds - done.seconds_to_first_token
    return whole_s - decode_s, (done.new_tokens - 1) / decode_s


def answering(folder: Path, runs: int) -> list[Figure]:
    """First tokens and decoding, of one photo, with each kind of weights."""
    peer = worker.do(partial(Peer, folder))  # no team of threads for this one
    kinds = {name: engine(folder, quantize=name) for name in ("none", "int8", "int4")}
    fresh = count()
    ways = {
        "generate": lambda: peer.timed(image(next(fresh)), 2, one_tile=False),
        "generate, one tile": lambda: peer.timed(image(next(fresh)), TOKENS, one_tile=True),
        **{
            name: lambda model=model: timed(model, image(next(fresh)), TOKENS)
            for name, model in kinds.items()
        },
    }
    for name in [*kinds, "generate, one tile"]:
        ways[name]()  # warm
    pairs = dict(zip(ways, _pairs(runs, ways.values()), strict=True))
    first = {name: tuple(pair[0] for pair in both) for name, both in pairs.items()}
    rate = {name: tuple(pair[1] for pair in both) for name, both in pairs.items()}
    one_tile = "generate, one tile"
    figures = []
    for name in kinds:
        called = "bf16" if name == "none" else name
        figures += [
            Figure(f"first token, {called}", "generate", "s", first[name], first["generate"]),
            Figure(f"first token, {called}", one_tile, "s", first[name], first[one_tile]),
            Figure(
                f"decode, {called}",
                "generate, bf16",
                "tok/s",
                rate[name],
                rate[one_tile],
                more_is_better=True,
                aim=4 if name == "int8" else None,
            ),
        ]
    return figures


def _pairs(runs: int, ways: Any) -> Iterator[list[tuple[float, float]]]:
    rounds = [[way() for way in ways] for _ in range(runs)]
    yield from (list(column) for column in zip(*rounds, strict=True))


def equal(folder: Path) -> str:
    """Whether the text is that of `generate`, token for token, in float32: of pictures that are as
    large as a tile, which neither enlarges."""
    peer, model = Peer(folder, torch.float32), engine(folder, dtype="float32")
    for seed in range(2):
        seen = image(seed, pixels(seed, (512, 512)))
        pieces = model.generate(asked(seen), Sampling(max_tokens=TOKENS))
        ours = "".join(piece.text for piece in pieces if isinstance(piece, Delta))
        theirs = peer.text(seen, TOKENS)
        if ours.strip() != theirs:
            return f"float32, greedy: MISSED: {ours!r} is not {theirs!r}"
    return f"float32, greedy: the same {TOKENS} tokens as generate for 2 photos"


def many(folder: Path | str, name: str, runs: int, *, tokens: int) -> list[Figure]:
    """16 small pictures, together and one after the other."""
    model = engine(folder)
    assert model.generate_many is not None
    fresh = count(1000)

    def pictures() -> Sequence[list[Message]]:
        seeds = [next(fresh) for _ in range(16)]
        return [asked(image(seed, shapes(seed, _SMALL))) for seed in seeds]

    def together() -> float:
        batch = pictures()
        return 16 / seconds(lambda: list(model.generate_many(batch, Sampling(max_tokens=tokens))))

    def one_by_one() -> float:
        batch = pictures()
        return 16 / seconds(
            lambda: [list(model.generate(one, Sampling(max_tokens=tokens))) for one in batch]
        )

    together()
    ours, theirs = in_turn(runs, together, one_by_one)
    what = f"16 small pictures, {name}"
    return [Figure(what, "one at a time", "pictures/s", ours, theirs, more_is_better=True, aim=2)]
