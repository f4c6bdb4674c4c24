"""The two halves of the built-in model, each trained alone and then joined."""

from pathlib import Path
from random import Random

import pytest
import torch

from vlmcli.builtin import checkpoints, fonts, optimizers, parts, samples, supply, tokens
from vlmcli.builtin.checkpoints import Progress
from vlmcli.builtin.model import Pupil


@pytest.fixture
def kept(tmp_path: Path) -> dict[str, torch.Tensor]:
    """The weights from which both halves begin."""
    torch.manual_seed(0)
    pupil, path = Pupil(tokens.build()), tmp_path / "kept.pt"
    for part in ("eye", "decoder", "kept"):
        checkpoints.save(path.with_stem(part), pupil, Progress(copied=0.9))
    return weights(path)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(path, weights_only=True)["weights"])


def changed(path: Path, before: dict[str, torch.Tensor]) -> set[str]:
    return {key for key, value in weights(path).items() if not value.equal(before[key])}


def test_each_half_learns_alone_and_both_are_joined(
    kept: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    eye = parts.train("eye", tmp_path, 0.001, 1e-3, 16)
    decoder = parts.train("decoder", tmp_path, 0.001, 1e-3, 16)
    seen, told = changed(tmp_path / "eye.pt", kept), changed(tmp_path / "decoder.pt", kept)
    assert seen and all(key.startswith(parts.EYE) for key in seen)
    assert told and all(key.startswith(parts.DECODER) for key in told)
    assert eye.pictures > 0 and decoder.asked == 1

    parts.join(tmp_path)
    assert changed(tmp_path / "checkpoint.pt", kept) == seen | told
    joined = checkpoints.load(tmp_path / "checkpoint.pt", Pupil(tokens.build()))
    assert (joined.pictures, joined.asked) == (eye.pictures, decoder.asked)


def test_the_ideal_eye_sees_the_same_in_some_cells_as_in_all() -> None:
    torch.manual_seed(0)
    pupil, rng = Pupil(tokens.build()), Random(1)
    torch.nn.init.normal_(pupil.ideal.chars.weight)  # what an empty slot says is learnt, too
    scenes = [samples.scene(rng, fonts.training_faces(), 1.0, many=False) for _ in range(3)]
    lesson = supply.packer().pack(scenes, rng, around=0)
    every = pupil.ideal(lesson.seen.truth, pupil.spoken()).flatten(0, 1)
    some = pupil.ideal.at(lesson.seen.truth, pupil.spoken(), lesson.cells)
    torch.testing.assert_close(some, every[lesson.cells], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", [(64, 256), (256, 64), (128, 128)])
def test_a_step_turns_in_every_direction_alike(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(optimizers.orthogonal(torch.randn(shape), torch.float32))
    assert values.median() > 0.6 and values.max() < 1.4 and values.min() > 0.1


def test_short_rows_are_padded_with_short_ones() -> None:
    rng, packer = Random(2), supply.packer()
    scenes = [samples.short_sign(rng, fonts.training_faces()) for _ in range(12)]
    groups = list(parts._by_length(packer, scenes))
    lengths = [[packer.length(scene) for scene in group] for group in groups]
    assert [len(group) for group in groups] == [4, 4, 4]
    assert max(lengths[0]) <= min(lengths[1]) and max(lengths[1]) <= min(lengths[2])
