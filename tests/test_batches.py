"""Many pictures: asked about together, decoded ahead, and answered as if each were alone."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import tiny_models
import torch
from bulk_here import dots, records
from conftest import Run, draw
from PIL import Image as Pillow
from transformers import AutoModelForImageTextToText

from vlmcli import backends, config, images, messages, wording
from vlmcli.answers import Asked
from vlmcli.backends import Engine
from vlmcli.backends.local import processors
from vlmcli.backends.local.features import Features
from vlmcli.backends.local.many import Many
from vlmcli.commands.together import Line, Waiting
from vlmcli.errors import InputError, VlmError
from vlmcli.inputs.ahead import Files, Pool
from vlmcli.inputs.pictures import Unread
from vlmcli.messages import Answer, Delta, Done, Image, Message, Sampling, Verdict
from vlmcli.settings import Settings

Tiny = Callable[[str], Path]
NEEDS_TORCHVISION = {"lfm2_vl"}
FAMILIES = sorted(set(tiny_models.FAMILIES) - NEEDS_TORCHVISION)
SIZES = ((64, 48), (200, 60), (60, 170), (64, 64), (64, 48))
FEW = ("-n", "12", "--dtype", "float32")


def pictures() -> Iterator[Image]:
    """No two alike, and of several shapes: tiles, grids and prompts are of several lengths."""
    for number, size in enumerate(SIZES):
        noise = Random(number).randbytes(size[0] * size[1] * 3)
        pixels = Pillow.frombytes("RGB", size, noise)
        pixels.paste((number * 40, 90, 20), (0, 0, size[0] // 2, size[1] // 2))
        yield Image(f"{number}.png", pixels, "")


def conversations(words: messages.Text | None = None) -> list[list[Message]]:
    return [[messages.user(words or wording.caption("short"), [one])] for one in pictures()]


def loaded(tiny: Tiny, family: str) -> Engine:
    return backends.load(config.load({"model": str(tiny(family)), "dtype": "float32"}))


def alone(engine: Engine, conversation: Sequence[Message], sampling: Sampling) -> Answer:
    *chunks, done = engine.generate(conversation, sampling)
    assert isinstance(done, Done)
    return Answer("".join(c.text for c in chunks if isinstance(c, Delta)), "", done)


def told(answer: Answer | VlmError) -> tuple[str, str, int, int, int | None]:
    assert isinstance(answer, Answer)
    done = answer.done
    return answer.text, done.reason, done.new_tokens, done.prompt_tokens, done.image_tokens


def together(engine: Engine, asked: Iterable[list[Message]], sampling: Sampling) -> list[Any]:
    assert engine.generate_many and engine.prepare
    return [*engine.generate_many([engine.prepare(one) for one in asked], sampling)]


# The same answers


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_answers_side_by_side_as_one_by_one(tiny: Tiny, family: str) -> None:
    engine, sampling = loaded(tiny, family), Sampling(max_tokens=12)
    asked = conversations()
    if family == "pix2struct":  # the tiny one knows too few columns for the wide picture
        del asked[1:3]
    found = together(engine, asked, sampling)

    assert [told(one) for one in found] == [told(alone(engine, one, sampling)) for one in asked]
    assert {one.done.together for one in found} == {len(asked)}


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "paligemma"])
def test_a_family_says_yes_and_no_side_by_side_as_one_by_one(tiny: Tiny, family: str) -> None:
    engine = loaded(tiny, family)
    asked = conversations(messages.Text("Is it red? Answer with yes or no."))
    assert engine.affirm and engine.affirm_many
    found = [*engine.affirm_many(asked)]

    for one, verdict in zip(asked, found, strict=True):
        assert isinstance(verdict, Verdict)
        single = engine.affirm(one)
        assert verdict.yes == pytest.approx(single.yes, rel=1e-4)
        assert verdict.no == pytest.approx(single.no, rel=1e-4)
        assert verdict.done.together == len(SIZES)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_tokens=24, stop=("a", "e")),
        Sampling(max_tokens=24, repetition_penalty=1.4),
        Sampling(
            max_tokens=24,
            schema=json.dumps({"type": "object", "properties": {"a": {"enum": ["x", "y"]}}}),
        ),
        Sampling(max_tokens=160),  # long enough for some to repeat themselves
    ],
    ids=["stop", "penalty", "schema", "long"],
)
def test_each_row_ends_by_itself(tiny: Tiny, sampling: Sampling) -> None:
    engine = loaded(tiny, "smolvlm")
    found = together(engine, conversations(), sampling)

    expected = [told(alone(engine, one, sampling)) for one in conversations()]
    assert [told(one) for one in found] == expected
    assert {one.done.together for one in found} == {len(SIZES)}
    if sampling.stop:
        assert len({one[2] for one in expected}) > 1


def test_what_is_drawn_at_random_does_not_depend_on_the_others(tiny: Tiny) -> None:
    engine, sampling = loaded(tiny, "llava"), Sampling(max_tokens=12, temperature=1.0, seed=7)
    every = [told(one) for one in together(engine, conversations(), sampling)]
    some = [told(one) for one in together(engine, conversations()[3:], sampling)]

    assert every == [told(alone(engine, one, sampling)) for one in conversations()]
    assert every[3:] == some


@dataclass
class Odd:
    """A model that goes wrong with more than `most` rows, in one way or another."""

    model: Any
    most: int
    wrong: Callable[[dict[str, Any]], None]
    rows: list[int] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def generate(self, **given: Any) -> Any:
        self.rows.append(given["input_ids"].shape[0])
        if self.rows[-1] > self.most:
            self.wrong(given)
        return self.model.generate(**given)


def no_memory(given: dict[str, Any]) -> None:
    raise torch.OutOfMemoryError


def blind(given: dict[str, Any]) -> None:
    given["attention_mask"] = torch.ones_like(given["attention_mask"])


def odd(tiny: Tiny, most: int, wrong: Callable[[dict[str, Any]], None]) -> tuple[Odd, Many]:
    folder = tiny("idefics3")
    model = Odd(
        AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval(), most, wrong
    )
    seen = Features(model, None, tuple, print)  # of which nothing is kept
    many = Many(model, processors.load(folder, "tiny"), "cpu", nullcontext, seen)
    return model, many


def test_what_does_not_fit_the_memory_is_asked_about_in_halves(tiny: Tiny) -> None:
    model, many = odd(tiny, 2, no_memory)
    found = [*many.generate(conversations() * 2, Sampling(max_tokens=8))]

    expected = together(loaded(tiny, "idefics3"), conversations(), Sampling(max_tokens=8))
    assert [told(one)[:3] for one in found] == [told(one)[:3] for one in expected] * 2
    assert max(one.done.together for one in found if isinstance(one, Answer)) == 2
    assert sum(rows > 2 for rows in model.rows) == 2  # of ten, then five: no more is tried again


def test_a_model_that_mixes_its_rows_up_is_found_out_and_asked_one_by_one(tiny: Tiny) -> None:
    model, many = odd(tiny, 1, blind)
    found = [*many.generate(conversations() * 2, Sampling(max_tokens=8))]

    expected = together(loaded(tiny, "idefics3"), conversations(), Sampling(max_tokens=8))
    assert [told(one)[:3] for one in found] == [told(one)[:3] for one in expected] * 2
    assert {one.done.together for one in found if isinstance(one, Answer)} == {1}
    assert sum(rows > 1 for rows in model.rows) == 1


# At the front door


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    where = tmp_path / "pictures"
    where.mkdir()
    for one in pictures():
        one.pixels.save(where / one.name)
    return where


@pytest.mark.parametrize("output", ["--json", "-o"])
def test_a_folder_is_captioned_in_batches_in_order(
    run: Run, tiny: Tiny, folder: Path, tmp_path: Path, output: str
) -> None:
    def captions(*flags: object) -> list[dict[str, Any]]:
        kept = tmp_path / f"{len(flags)}.jsonl"
        where = ["--json"] if output == "--json" else ["-o", kept]
        code, out, err = run("caption", folder, "-m", tiny("smolvlm"), *FEW, *where, *flags)
        assert code == 0, err
        lines = out.splitlines() if output == "--json" else kept.read_text().splitlines()
        return [json.loads(line) for line in lines]

    single, several = captions("--batch-size", "1"), captions()
    same = ("file", "text", "finish_reason", "width", "height", "sha256", "image_tokens")
    assert [[one[name] for name in same] for one in several] == [
        [one[name] for name in same] for one in single
    ]
    assert [one.get("batch_size", 1) for one in several] == [1, 2, 2, 2, 2]
    assert not any("batch_size" in one for one in single)


@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_quantized_weights_round_more_and_are_asked_in_batches_all_the_same(
    run: Run, tmp_path: Path, kind: str, dtype: str
) -> None:
    for number, size in enumerate([(300, 200), (400, 200), (200, 300)]):
        draw(tmp_path / f"{number}.png", size, "white")
    flags = ("-m", "builtin", "--json", "--quantize", kind, "--dtype", dtype)
    code, out, _ = run("caption", tmp_path, *flags)
    sizes = [json.loads(line).get("batch_size", 1) for line in out.splitlines()]
    assert (code, sizes) == (0, [1, 2, 2])


def test_statistics_tell_that_the_time_was_shared(run: Run, tiny: Tiny, folder: Path) -> None:
    _, _, err = run("caption", folder, "-m", tiny("llava"), *FEW, "--stats")
    lines = [line for line in err.splitlines() if not line.startswith("phases: ")]
    assert [line.endswith("2 together") for line in lines] == [False, *[True] * 4]


def test_a_picture_that_the_processor_refuses_fails_alone_in_a_batch(
    run: Run, tiny: Tiny, folder: Path
) -> None:
    draw(folder / "3-thin.png", (1, 400))  # too narrow for Qwen's processor
    code, out, err = run("caption", folder, "-m", tiny("qwen2_vl"), *FEW)

    assert code == 3
    names = [Path(line.split("\t")[0]).name for line in out.splitlines()]
    assert names == [f"{number}.png" for number in range(5)]
    assert "3-thin.png" in err and "1 of 6 failed" in err


def test_grep_finds_the_same_in_batches(run: Run, tiny: Tiny, folder: Path) -> None:
    flags = ("-M", tiny("llava"), "--dtype", "float32", "--scores", "--threshold", "0")
    single = run("grep", "a dog", folder, *flags, "--batch-size", "1")
    assert single[0] == 0 and single[1].count("\n") == 5
    assert run("grep", "a dog", folder, *flags) == single


# The pipeline, with a stand-in that answers in batches


@dataclass
class Crowd:
    """Answers by the colour of the picture; remembers how many it was given at once."""

    most: int = 8
    sizes: list[int] = field(default_factory=list)
    prepared: list[str] = field(default_factory=list)
    before: Callable[[], None] = lambda: None
    fails: Sequence[str] = ()

    def load(self, settings: Settings) -> Engine:
        return Engine(
            "fake",
            "cpu",
            "float32",
            self.generate,
            affirm=lambda conversation: self.verdict(conversation),
            generate_many=self.generate_many,
            affirm_many=self.affirm_many,
            most_together=self.most,
        )

    def generate(self, conversation: Sequence[Message], sampling: Sampling) -> Iterator[Any]:
        self.sizes.append(0)
        yield Delta(said(conversation))
        yield Done("stop", 1, 1, 1, 0.1, 0.1)

    def generate_many(
        self, conversations: Iterable[Sequence[Message]], sampling: Sampling
    ) -> Iterator[Answer | VlmError]:
        asked = [*conversations]
        self.before()
        self.sizes.append(len(asked))
        for one in asked:
            name = one[-1].images[0].name
            if any(piece in name for piece in self.fails):
                yield InputError(f"{name}: refused")
            else:
                yield Answer(said(one), "", Done("stop", 1, 1, 1, 0.1, 0.1, together=len(asked)))

    def affirm_many(
        self, conversations: Iterable[Sequence[Message]]
    ) -> Iterator[Verdict | VlmError]:
        asked = [*conversations]
        self.sizes.append(len(asked))
        return (self.verdict(one) for one in asked)

    def verdict(self, conversation: Sequence[Message]) -> Verdict:
        odd = int(Path(conversation[-1].images[0].name).stem) % 2
        return Verdict(0.9 * odd, 0.9 * (1 - odd), Done("stop", 1, 1, 1, 0.1, 0.1))


def said(conversation: Sequence[Message]) -> str:
    return f"red {conversation[-1].images[0].pixels.getpixel((0, 0))[0]}"  # type: ignore[index]


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> Crowd:
    engine = Crowd()
    monkeypatch.setattr(backends, "load", engine.load)
    monkeypatch.setattr(backends, "identify", lambda settings: ("fake", None))
    return engine


def test_batches_begin_small_and_each_is_on_the_disk_before_the_next(
    run: Run, crowd: Crowd, tmp_path: Path
) -> None:
    files, out = dots(tmp_path / "dots", 30, damaged=[4, 20]), tmp_path / "out.jsonl"
    on_disk: list[int] = []
    crowd.before = lambda: on_disk.append(len(records(out)))
    crowd.fails = ("0009.png",)

    code, _, err = run("caption", tmp_path / "dots", "-o", out)

    assert code == 3 and "27 done, 0 skipped, 3 failed" in err
    assert [record["file"] for record in records(out)] == [str(file) for file in files]
    bad = [n for n, record in enumerate(records(out)) if "error" in record]
    assert bad == [4, 9, 20]
    assert crowd.sizes[:2] == [1, 2] and max(crowd.sizes) == 8
    # Each failure of a picture that could not be asked about is among them, too.
    written = [sum(crowd.sizes[:n]) for n in range(len(crowd.sizes))]
    assert all(there >= asked for there, asked in zip(on_disk, written, strict=True))


def test_a_second_run_asks_and_decodes_nothing(
    run: Run, crowd: Crowd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dots(tmp_path / "dots", 12)
    run("caption", tmp_path / "dots", "-o", tmp_path / "out.jsonl")
    crowd.sizes.clear()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(images, "decode", refuse)
    assert "12 skipped" in run("caption", tmp_path / "dots", "-o", tmp_path / "out.jsonl")[2]
    assert crowd.sizes == []


def test_copies_that_would_be_in_one_batch_are_asked_about_once(
    run: Run, crowd: Crowd, tmp_path: Path
) -> None:
    files, out = dots(tmp_path / "dots", 6), tmp_path / "out.jsonl"
    for number in (3, 4):
        files[number].write_bytes(files[2].read_bytes())

    assert "6 done" in run("caption", tmp_path / "dots", "-o", out)[2]
    assert sum(crowd.sizes) == 4
    assert [record["text"] for record in records(out)] == [
        "red 0", "red 1", "red 2", "red 2", "red 2", "red 5",
    ]  # fmt: skip


def test_a_file_that_is_slow_to_come_holds_its_place(
    run: Run, crowd: Crowd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = dots(tmp_path / "dots", 5)
    decode = images.decode

    def slowly(name: str, *arguments: Any, **options: Any) -> Iterator[Image]:
        time.sleep(0.3 if name == str(files[0]) else 0)
        return decode(name, *arguments, **options)

    monkeypatch.setattr(images, "decode", slowly)
    _, out, _ = run("caption", tmp_path / "dots")
    assert out == "".join(f"{file}\tred {n}\n" for n, file in enumerate(files))


@pytest.mark.parametrize(
    ("flags", "sizes"),
    [
        (["--batch-size", "1"], [0, 0, 0, 0, 0, 0, 0]),
        (["--batch-size", "3"], [1, 2, 3, 1]),
        (["--batch-size", "auto"], [1, 2, 4]),
        ([], [1, 2, 4]),
        (["--batch-size", "100"], [1, 2, 4]),
    ],
)
def test_the_size_of_a_batch_can_be_told(
    run: Run, crowd: Crowd, tmp_path: Path, flags: list[str], sizes: list[int]
) -> None:
    dots(tmp_path / "dots", 7)
    code, out, _ = run("caption", tmp_path / "dots", *flags)
    assert (code, out.count("\n"), crowd.sizes) == (0, 7, sizes)


@pytest.mark.parametrize(
    "arguments",
    [
        ("caption", "--batch-size", "0"),
        ("caption", "--batch-size", "many"),
        ("ask", "what?", "--each", "--batch-size", "-1"),
        ("grep", "a dog", "--batch-size", "1.5"),
    ],
)
def test_a_size_that_is_none_is_a_usage_error(
    run: Run, crowd: Crowd, picture: Path, arguments: tuple[str, ...]
) -> None:
    command, *rest = arguments
    at = 1 if command == "grep" else 0
    code, out, err = run(command, *rest[:at], picture, *rest[at:])
    assert (code, out) == (2, "")
    assert "--batch-size" in err and "a whole number from 1, or auto" in err


def test_ask_each_takes_batches_and_ask_does_not(run: Run, crowd: Crowd, tmp_path: Path) -> None:
    dots(tmp_path / "dots", 3)
    assert run("ask", "--each", tmp_path / "dots", "what?", "--batch-size", "2")[0] == 0
    assert crowd.sizes == [1, 2]
    code, _, err = run("ask", tmp_path / "dots", "what?", "--batch-size", "2")
    assert code == 2 and "add --each" in err


@pytest.mark.parametrize(
    ("flags", "found", "asked"),
    [
        ([], 10, 20),
        (["-m", "3"], 3, 6),
        (["-q"], 0, 2),
        (["-v", "-m", "1"], 1, 1),
        (["-l", "-m", "2"], 2, 4),
    ],
)
def test_grep_looks_at_no_more_pictures_than_it_needs(
    run: Run, crowd: Crowd, tmp_path: Path, flags: list[str], found: int, asked: int
) -> None:
    """The pictures with odd numbers are found."""
    dots(tmp_path / "dots", 20)
    code, out, err = run("grep", *flags, "a dog", tmp_path / "dots")
    assert (code, out.count("\n"), err) == (0, found, "")
    assert sum(crowd.sizes) == asked


# What is held in memory


def test_huge_pictures_are_decoded_one_at_a_time(picture: Path) -> None:
    """Small ones side by side; nothing waits for ever."""
    inside, most = 0, {True: 0, False: 0}
    lock = threading.Lock()
    order: list[int] = []

    def ready(huge: bool) -> Asked:
        nonlocal inside
        with lock:
            inside += 1
            most[huge] = max(most[huge], inside)
        time.sleep(0.02)
        with lock:
            inside -= 1
        return Asked([], [], 10**12 if huge else 10)

    def steps() -> Iterator[Waiting[None]]:
        for number in range(12):
            huge = number >= 8
            unread = Unread(str(number), "", None, 10**12 if huge else 10, lambda: None)  # type: ignore[arg-type,return-value]
            yield Waiting(unread, partial(ready, huge), lambda *_, n=number: order.append(n))  # type: ignore[misc]

    def answer(several: Sequence[Asked]) -> Iterator[None]:
        yield from [None] * len(several)

    with Pool(4) as pool, Files([], config.load({}), pool) as files:
        files.ready = lambda wait_s=0.0: True  # type: ignore[method-assign]
        Line(steps(), files, pool, answer, lambda: 8).run()
    assert order == [*range(12)]
    assert most[False] > 1
    assert most[True] == 1


def test_no_thread_is_left_behind(run: Run, crowd: Crowd, tmp_path: Path) -> None:
    dots(tmp_path / "dots", 20)
    before = threading.active_count()
    for _ in range(3):
        assert run("grep", "-q", "a dog", tmp_path / "dots")[0] == 0
        assert run("caption", tmp_path / "dots")[0] == 0
    deadline_s = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert threading.active_count() <= before
