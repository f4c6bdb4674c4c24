"""The training of the built-in model, at its smallest: it goes on, it stops, it writes a model."""

import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from conftest import Run
from torch import Tensor, nn
from torch.nn import functional

from vlmcli.builtin import (
    checkpoints,
    evaluate,
    export,
    fonts,
    lessons,
    pages,
    supply,
    tokens,
    train,
)
from vlmcli.builtin.batches import Lesson, Packer
from vlmcli.builtin.checkpoints import Progress
from vlmcli.builtin.drawing import CELL, SIDE
from vlmcli.builtin.model import EYE_WIDTH, IMAGE_TOKENS, Pupil, normalized
from vlmcli.builtin.rows import IGNORED
from vlmcli.builtin.samples import Scene

SMALLEST = ("--pages", "1", "--scenes", "1", "--looks", "1", "--workers", "0")
A_MOMENT = ("--processes", "1", "--minutes", "0.01", *SMALLEST)
BEFORE_SEEING = Progress(step=49, level=0.999, char=0.97, pictures=7)
"""One step later the log has a line, and the hardest pages are read well enough to ask the eye."""

Train = Callable[..., Progress]


@pytest.fixture(scope="module")
def pupil() -> Pupil:
    torch.manual_seed(0)
    return Pupil(tokens.build())


@pytest.fixture(autouse=True)
def kept(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of the folder of the model that ships: there is none yet."""
    path = tmp_path_factory.mktemp("shipped")
    monkeypatch.setattr(checkpoints, "SHIPPED", path)
    return path


@pytest.fixture
def folder(pupil: Pupil, tmp_path: Path) -> Path:
    """The folder of a training that is about to ask the eye its first questions."""
    checkpoints.save(tmp_path / "checkpoint.pt", pupil, BEFORE_SEEING)
    return tmp_path


def saved(folder: Path) -> dict[str, Any]:
    return dict(torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True))


@pytest.fixture
def go_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Train]:
    """Train in this process; where the training then is."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    handlers = [signal.getsignal(number) for number in numbers]

    def run_training(*arguments: str) -> Progress:
        monkeypatch.setattr(sys, "argv", ["train", "--folder", str(folder), *arguments])
        train.main()
        return Progress(**saved(folder)["progress"])

    yield run_training
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-m", "vlmcli.builtin.train", "--folder", str(folder)]
    return subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_new_training_writes_a_whole_checkpoint_and_goes_on_from_it(
    folder: Path, go_on: Train
) -> None:
    (folder / "checkpoint.pt").unlink()
    first, second = go_on(*A_MOMENT), go_on(*A_MOMENT)
    assert 0 < first.step < second.step < BEFORE_SEEING.step
    assert (second.stage, second.level) == ("look", 0.0)  # nothing is read yet
    assert set(saved(folder)) == {"weights", "progress"}
    assert [file.name for file in folder.iterdir()] == ["checkpoint.pt"]


@pytest.mark.slow
def test_a_training_told_to_stop_saves_where_it_is(folder: Path) -> None:
    started = start(folder, "--processes", "1", "--save-minutes", "100", *SMALLEST)
    assert started.stdout is not None
    assert "step 50 answer" in started.stdout.readline()
    assert saved(folder)["progress"]["step"] == 49
    started.send_signal(signal.SIGTERM)
    started.communicate(timeout=60)
    assert started.returncode == 0
    assert saved(folder)["progress"]["step"] >= 50


@pytest.mark.slow
def test_two_processes_train_one_model(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    two = ("--processes", "2", "--port", str(port), "--minutes", "0.02", *SMALLEST)
    started = start(folder, *two)
    out, _ = started.communicate(timeout=100)
    assert started.returncode == 0
    assert saved(folder)["progress"]["step"] >= 50
    assert out.count("step 50 ") == 1


@pytest.mark.slow
def test_questions_are_imagined_until_pages_are_read_and_then_asked_of_the_eye(
    go_on: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = go_on(*A_MOMENT, "--save-minutes", "0")
    assert (progress.stage, progress.level) == ("answer", 1.0)
    assert progress.asked == progress.step - BEFORE_SEEING.step > 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "step 50 answer" in line and " imagined answers: loss" in line


@pytest.mark.slow
def test_the_eye_is_asked_at_once_when_that_stage_is_asked_for(
    go_on: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = go_on(*A_MOMENT, "--stage", "answer")
    assert progress.asked == progress.step - BEFORE_SEEING.step > 0
    out = capsys.readouterr().out
    assert " answers: loss" in out and " imagined answers: loss" in out


@pytest.mark.slow
def test_a_training_with_no_checkpoint_of_its_own_goes_on_from_what_ships(
    folder: Path, kept: Path, go_on: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = go_on(*A_MOMENT)
    monkeypatch.setattr(sys, "argv", ["export", "--folder", str(folder), "--to", str(kept)])
    export.main()
    assert (kept / checkpoints.HEADS).stat().st_size < 4e6
    whole = saved(folder)["weights"]
    (folder / "checkpoint.pt").unlink()
    torch.manual_seed(3)
    other = Pupil(tokens.build())
    assert checkpoints.load(folder / "checkpoint.pt", other) == first
    for name, weight in other.state_dict().items():
        assert torch.allclose(weight, whole[name].float(), atol=0.02, rtol=0.02), name


@pytest.mark.slow
def test_a_checkpoint_brings_back_the_weights(pupil: Pupil, folder: Path) -> None:
    torch.manual_seed(1)
    other = Pupil(tokens.build())
    progress = checkpoints.load(folder / "checkpoint.pt", other)
    assert progress == BEFORE_SEEING
    for name, weight in pupil.state_dict().items():
        assert torch.allclose(other.state_dict()[name], weight, atol=2e-3, rtol=2e-3), name


def test_without_a_checkpoint_a_training_starts_at_nothing(pupil: Pupil, tmp_path: Path) -> None:
    assert checkpoints.load(tmp_path / "none.pt", pupil) == Progress()


@pytest.mark.slow
def test_a_finished_training_writes_a_model_that_captions_and_can_be_evaluated(
    folder: Path, go_on: Train, run: Run, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert go_on("--processes", "1", "--finish", "0.01", *SMALLEST).finished == 1
    made = folder / "model"
    run("--version")  # takes the log of the training out of the way
    assert (made / "model.safetensors").stat().st_size < 20e6
    code, out, err = run("caption", picture, "-m", made, "-n", "3", "--json")
    assert (code, out.count("\n")) == (0, 1), err
    monkeypatch.setenv("VLM_MAX_TOKENS", "2")
    wanted = ["evaluate", "--model", str(made), "--count", "1", "--show", "1"]
    monkeypatch.setattr(sys, "argv", [*wanted, "--keep", str(folder / "wrong")])
    evaluate.main()
    code, out, err = run("--version")  # what evaluate printed, and a line more
    lines = [line for line in out.splitlines() if "% exact" in line]
    assert [line.partition(":")[0] for line in lines] == list(evaluate.MAKERS)
    assert all("0.0 % exact (0 of 1" in line for line in lines)
    assert len(list((folder / "wrong").glob("*.png"))) >= len(lines)


@pytest.mark.slow
def test_a_checkpoint_is_exported_as_the_same_model(
    pupil: Pupil, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from transformers import LlavaForConditionalGeneration

    to = folder / "exported"
    monkeypatch.setattr(sys, "argv", ["export", "--folder", str(folder), "--to", str(to)])
    export.main()
    assert f"step 49, 7 pictures -> {to}" in capsys.readouterr().out
    read = LlavaForConditionalGeneration.from_pretrained(to, dtype=torch.bfloat16).state_dict()
    for name, weight in export.plain(pupil).state_dict().items():
        assert torch.allclose(read[name].float(), weight, atol=0.02, rtol=0.02), name


@pytest.mark.slow
def test_a_process_that_draws_gives_what_would_have_been_drawn_here() -> None:
    drawing = supply.Supply("seed", pages=1, scenes=2)
    drawing.follow(replace(BEFORE_SEEING, stage="answer"))
    here, there = (next(supply.loader(drawing, workers)) for workers in (0, 1))
    assert torch.equal(here.pages.pixels, there.pages.pixels)
    assert torch.equal(here.lesson.ids, there.lesson.ids)
    assert here.imagined and there.imagined
    assert torch.equal(here.imagined.ids, there.imagined.ids)
    assert not here.imagined.seen.pixels.any()  # nothing is drawn that nobody looks at


def lesson_of(stage: str) -> Lesson:
    drawing = supply.Supply("seed", pages=1, scenes=2)
    drawing.follow(replace(BEFORE_SEEING, stage=stage))
    step = next(iter(drawing))
    assert step.pages.pixels.shape == (1, SIDE, SIDE, 3)
    return step.lesson


def test_lessons_are_sparse_until_the_eye_is_asked_and_then_not_always() -> None:
    drawing = supply.Supply("seed", pages=1, scenes=1)
    shares = {}
    for stage in ("look", "answer"):
        drawing.follow(replace(BEFORE_SEEING, stage=stage, copied=0.9))
        steps = iter(drawing)
        lessons_of_stage = [next(steps).lesson for _ in range(16)]
        shares[stage] = [
            len(lesson.cells) / len(lesson.seen.pixels) / IMAGE_TOKENS
            for lesson in lessons_of_stage
        ]
    assert max(shares["look"]) < 1.0
    assert 0 < shares["answer"].count(1.0) < 16 and min(shares["answer"]) < 0.6


def test_copying_is_learnt_from_short_signs_before_anything_else_is_asked() -> None:
    drawing = supply.Supply("test", 1, 2)
    drawing.follow(replace(BEFORE_SEEING, stage="look", copied=0.1))
    steps = iter(drawing)
    for _ in range(3):
        lesson = next(steps).lesson
        assert lesson.kinds == ("sign",) * 8 and lesson.ids.shape[1] < 200
    drawing.follow(replace(BEFORE_SEEING, stage="look", copied=0.9))
    kinds = {kind.rstrip("?") for _ in range(12) for kind in next(steps).lesson.kinds}
    assert len(kinds) > 3


# What one step teaches


def gradients(pupil: Pupil, loss: Tensor) -> set[str]:
    """The parts of the pupil that this loss changes."""
    pupil.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    moved = [name for name, p in pupil.named_parameters() if p.grad is not None and p.grad.any()]
    return {name.removeprefix("model.model.").partition(".")[0] for name in moved}


def test_an_imagined_lesson_teaches_the_decoder_and_counts_each_answer(pupil: Pupil) -> None:
    lesson = lesson_of("look")
    loss, counts = lessons.imagine(pupil, lesson)
    assert torch.isfinite(loss) and 0 < counts["imagined loss"] < float(loss.detach())
    asked = Counter(lesson.kinds)
    assert {kind: counts[f"imagined n {kind}"] for kind in asked} == asked
    assert all(0 <= counts[f"imagined ok {kind}"] <= asked[kind] for kind in asked)
    assert counts["imagined steps"] == 1
    assert gradients(pupil, loss) == {"language_model", "ideal", "deep"}


def test_looking_teaches_the_eye_and_counts_what_is_there(pupil: Pupil) -> None:
    seen = lesson_of("look").seen
    loss, cells, counts = lessons.look(pupil, seen)
    assert cells.shape == (len(seen.pixels), IMAGE_TOKENS, EYE_WIDTH)
    assert counts["chars"] == int((seen.truth.slots > 0).sum())
    assert counts["things"] == int((seen.truth.things > 0).sum())
    assert counts["char"] <= counts["chars"] and counts["found"] <= counts["chars"]
    assert gradients(pupil, loss) == {"vision_tower", "dense", "fine", "place"}


def test_the_eye_comes_to_meet_the_ideal_one_which_stays_where_it_is(pupil: Pupil) -> None:
    seen = lesson_of("look").seen
    loss, counts = lessons.match(pupil, pupil.see(normalized(seen.pixels))[0], seen)
    assert counts["match"] > 0
    assert gradients(pupil, loss) == {"vision_tower", "multi_modal_projector"}


def test_an_eye_that_hands_on_what_the_ideal_one_does_misses_nothing(
    pupil: Pupil, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = lesson_of("look").seen
    monkeypatch.setattr(Pupil, "connect", lambda _pupil, cells: cells)
    ideal = pupil.ideal(seen.truth, pupil.spoken())
    loss, counts = lessons.match(pupil, ideal, seen)
    assert counts == {"match": 0, "told": 1} and float(loss.detach()) < 0.01
    _, worse = lessons.match(pupil, ideal + 5 * torch.randn_like(ideal), seen)
    assert worse["match"] > 0 and worse["told"] < 0.5


def test_a_lesson_has_the_loss_that_the_model_has_when_each_question_is_asked_alone(
    pupil: Pupil,
) -> None:
    lesson, plain = packed(PAIRS), export.plain(pupil)
    with torch.no_grad():
        _, counts = lessons.answer(pupil, lesson, pupil.see(normalized(lesson.seen.pixels))[0])
        alone = []
        for pair in PAIRS:
            single = packed([pair])
            n = int((single.labels[0] != IGNORED).nonzero().max()) + 1
            said = plain(
                input_ids=single.ids[:, :n], pixel_values=normalized(single.seen.pixels)
            ).logits
            alone.append(
                functional.cross_entropy(said[0], single.labels[0, :n], ignore_index=IGNORED)
            )
    assert counts["loss"] == pytest.approx(float(sum(alone)) / 2, rel=1e-3)


PAIRS = [("is there a star", "yes"), ("is there a red circle", "no")]


def packed(pairs: list[tuple[str, str]]) -> Lesson:
    """Questions about a picture with something on it, none misspelt."""
    tokenizer = tokens.build()
    image, end = tokenizer.convert_tokens_to_ids([tokens.IMAGE, tokens.END])
    packer = Packer(tokens.Speller(tokenizer), image, end, tokenizer.pad_token_id)
    picture = pages.page(Random(0), [fonts.Face("", "Aileron")], 1.0)
    return packer.pack([Scene("shapes", [picture], pairs)], Random(1))


@pytest.mark.slow
@pytest.mark.parametrize("imagined", [True, False])
def test_steps_on_one_lesson_lower_its_loss(imagined: bool) -> None:
    torch.manual_seed(0)
    pupil = Pupil(tokens.build())
    lesson = packed(PAIRS)
    optimizer, losses = torch.optim.AdamW(pupil.parameters(), lr=1e-3), []
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):  # as the training does
            if imagined:
                loss, _ = lessons.imagine(pupil, lesson)
            else:
                loss, _ = lessons.answer(
                    pupil, lesson, pupil.see(normalized(lesson.seen.pixels))[0]
                )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


# The model


def depthwise_of(pupil: Pupil) -> nn.Conv2d:
    tower = pupil.model.model.vision_tower.modules()
    return next(part for part in tower if isinstance(part, nn.Conv2d) and part.groups > 1)


def test_the_depthwise_convolutions_of_the_training_are_the_plain_ones(pupil: Pupil) -> None:
    conv = depthwise_of(pupil)
    pixels = torch.randn(1, conv.in_channels, 20, 20)
    plain = functional.conv2d(pixels, conv.weight, conv.bias, padding="same", groups=conv.groups)
    assert torch.allclose(conv(pixels), plain, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        half = conv(pixels.bfloat16())
    assert half.dtype == torch.bfloat16  # as the layers around it expect
    assert torch.allclose(half.float(), plain, atol=0.03, rtol=0.03)
    wanted, given = (
        torch.autograd.grad(out.float().sum(), conv.weight)[0] for out in (plain, half)
    )
    assert torch.allclose(given, wanted, atol=0.2, rtol=0.03)


def test_the_eye_sees_a_cell_in_the_place_where_it_is(pupil: Pupil) -> None:
    pixels = torch.full((2, SIDE, SIDE, 3), 255, dtype=torch.uint8)
    pixels[1, 160:176, 48:64] = 0  # the cell in row 10, column 3
    with torch.no_grad():
        blank, marked = pupil.see(normalized(pixels))[0]
    assert blank.shape == (IMAGE_TOKENS, EYE_WIDTH)
    row, column = divmod(int((blank - marked).square().sum(-1).argmax()), SIDE // CELL)
    assert abs(row - 10) <= 1 and abs(column - 3) <= 1  # nothing is learnt yet


def test_the_model_has_the_size_that_its_card_states(pupil: Pupil) -> None:
    card = (Path(checkpoints.__file__).parent / "MODEL_CARD.md").read_text(encoding="utf-8")
    millions = sum(weight.numel() for weight in pupil.model.parameters()) / 1e6
    assert f"{millions:.2f} million parameters" in card
    assert f"as {IMAGE_TOKENS} tokens" in card
