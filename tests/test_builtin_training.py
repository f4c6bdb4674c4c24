"""The training of the built-in model, at its smallest: it goes on, it stops, it writes a model."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Run

from vlmcli.builtin import checkpoints, evaluate, export, lessons, supply, tokens, train
from vlmcli.builtin.checkpoints import Progress
from vlmcli.builtin.model import Pupil

SMALLEST = ("--tiles", "4", "--scenes", "1", "--workers", "0")
A_MOMENT = ("--processes", "1", "--minutes", "0.01", *SMALLEST)
BEFORE_QUESTIONS = Progress(step=49, level=0.799, char=0.9, pictures=7)
"""One step later the log has a line, and the pages are hard enough to go on to questions."""

Train = Callable[..., Progress]


@pytest.fixture(scope="module")
def pupil() -> Pupil:
    torch.manual_seed(0)
    return Pupil(tokens.build())


def optimizer_of(pupil: Pupil) -> torch.optim.AdamW:
    return torch.optim.AdamW(pupil.parameters())


@pytest.fixture
def folder(pupil: Pupil, tmp_path: Path) -> Path:
    """The folder of a training that is about to come to its first questions."""
    checkpoints.save(tmp_path / "checkpoint.pt", pupil, optimizer_of(pupil), BEFORE_QUESTIONS)
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
def test_a_new_training_writes_a_whole_checkpoint_and_goes_on_from_it(tmp_path: Path) -> None:
    steps = []
    for _ in range(2):
        started = start(tmp_path, *A_MOMENT)
        started.communicate(timeout=100)
        assert started.returncode == 0
        steps.append(saved(tmp_path)["progress"]["step"])
    assert 0 < steps[0] < steps[1]
    assert set(saved(tmp_path)) == {"weights", "moments", "progress"}
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


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
def test_pages_that_are_read_lead_to_questions(
    go_on: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = go_on(*A_MOMENT, "--save-minutes", "0")
    assert (progress.stage, progress.step > 49) == ("answer", True)
    assert progress.level > BEFORE_QUESTIONS.level
    assert "step 50" in capsys.readouterr().out


@pytest.mark.slow
def test_questions_are_answered_at_once_when_that_stage_is_asked_for(
    go_on: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = go_on(*A_MOMENT, "--stage", "answer")
    assert progress.answer_step == progress.step - BEFORE_QUESTIONS.step > 0
    assert "exact:" in capsys.readouterr().out


@pytest.mark.slow
def test_training_goes_on_from_a_stripped_checkpoint_which_is_smaller(
    folder: Path, go_on: Train
) -> None:
    first = go_on(*A_MOMENT)
    whole = folder / "checkpoint.pt"
    size = whole.stat().st_size
    checkpoints.strip(whole, folder / "stripped.pt")
    (folder / "stripped.pt").replace(whole)
    assert whole.stat().st_size < size / 2
    assert go_on(*A_MOMENT).step > first.step


@pytest.mark.slow
def test_a_checkpoint_brings_back_the_weights(pupil: Pupil, folder: Path) -> None:
    torch.manual_seed(1)
    other = Pupil(tokens.build())
    progress = checkpoints.load(folder / "checkpoint.pt", other, optimizer_of(other))
    assert progress == BEFORE_QUESTIONS
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


def test_a_checkpoint_is_exported_as_the_same_model(
    pupil: Pupil, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from transformers import LlavaForConditionalGeneration

    to = folder / "exported"
    monkeypatch.setattr(sys, "argv", ["export", "--folder", str(folder), "--to", str(to)])
    export.main()
    assert f"step 49, 7 pictures -> {to}" in capsys.readouterr().out
    read = LlavaForConditionalGeneration.from_pretrained(to, dtype=torch.bfloat16).state_dict()
    for name, weight in pupil.model.state_dict().items():
        assert torch.allclose(read[name].float(), weight, atol=0.02, rtol=0.02), name


@pytest.mark.slow
def test_a_process_that_draws_gives_what_would_have_been_drawn_here() -> None:
    drawing = supply.Supply("seed", tiles=4, scenes=1)
    drawing.follow(replace(BEFORE_QUESTIONS, stage="answer"))
    here, there = (next(supply.loader(drawing, workers)) for workers in (0, 1))
    assert torch.equal(here[0].pixels, there[0].pixels)
    assert here[1] is not None and there[1] is not None
    assert torch.equal(here[1].ids, there[1].ids)


def test_no_question_is_asked_before_that_stage() -> None:
    drawing = supply.Supply("seed", tiles=4, scenes=1)
    drawing.follow(BEFORE_QUESTIONS)
    seen, lesson = next(iter(drawing))
    assert lesson is None and seen.pixels.shape == (4, 160, 160, 3)


@pytest.mark.slow
def test_steps_on_one_lesson_lower_its_loss() -> None:
    torch.manual_seed(0)
    pupil = Pupil(tokens.build())
    drawing = supply.Supply("seed", tiles=4, scenes=1)
    drawing.follow(replace(BEFORE_QUESTIONS, stage="answer"))
    _, lesson = next(iter(drawing))
    assert lesson is not None
    optimizer, losses = torch.optim.AdamW(pupil.parameters(), lr=1e-3), []
    for _ in range(4):
        loss, counts = lessons.answer(pupil, lesson, dense_weight=0.25)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(counts["answer loss"])
    assert losses[-1] < losses[0]
