"""What one step teaches: losses, and counts for the log."""

import torch
from torch import Tensor
from torch.nn import functional

from vlmcli.builtin.batches import IGNORED, Lesson, Seen
from vlmcli.builtin.labels import place_waves
from vlmcli.builtin.model import Pupil, normalized

Counts = dict[str, float]


def look(pupil: Pupil, seen: Seen) -> tuple[Tensor, Tensor, Counts]:
    """Name what is in pictures: the loss, the eye's cells, the counts."""
    cells = pupil.see(normalized(seen.pixels))
    loss, counts = pupil.dense(cells, seen.truth)
    return loss + _place_loss(pupil, cells), cells, {k: float(v) for k, v in counts.items()}


def match(pupil: Pupil, cells: Tensor, seen: Seen) -> tuple[Tensor, Counts]:
    """The connector hands on what an eye without mistakes would."""
    with torch.no_grad():
        wanted = pupil.ideal(seen.truth, pupil.spoken()).float()
    given = pupil.model.model.multi_modal_projector(cells).float()
    loss = (given - wanted).square().mean() / wanted.square().mean()
    return loss, {"match": float(loss.detach())}


def imagine(pupil: Pupil, lesson: Lesson) -> tuple[Tensor, Counts]:
    """Answer the questions from the labels instead of the pictures."""
    given = pupil.ideal.at(lesson.seen.truth, pupil.spoken(), lesson.cells)
    loss, counts = _answers(pupil, lesson, given)
    return loss, {f"imagined {key}": value for key, value in counts.items()}


def answer(pupil: Pupil, lesson: Lesson, cells: Tensor) -> tuple[Tensor, Counts]:
    """Answer the questions from what the eye sees: its cells, of each picture of the lesson."""
    given = pupil.model.model.multi_modal_projector(cells).flatten(0, 1)[lesson.cells]
    return _answers(pupil, lesson, given)


def _answers(pupil: Pupil, lesson: Lesson, given: Tensor) -> tuple[Tensor, Counts]:
    logits, labels, answers = _spoken(pupil, lesson, given)
    losses = functional.cross_entropy(logits.float(), labels, reduction="none")
    # Each answer weighs the root of its length: neither yes and no nor long captions rule.
    lengths = torch.bincount(answers, minlength=len(lesson.kinds)).clamp(min=1)
    weights = lengths[answers].float() ** -0.5
    spoken = (losses * weights).sum() / weights.sum()
    wrong = torch.zeros(len(lesson.kinds), device=labels.device)
    wrong.index_add_(0, answers, (logits.argmax(-1) != labels).float())
    counts: Counts = {"loss": float(spoken.detach()), "steps": 1.0}
    for kind, misses in zip(lesson.kinds, wrong.tolist(), strict=True):
        counts[f"n {kind}"] = counts.get(f"n {kind}", 0) + 1
        counts[f"ok {kind}"] = counts.get(f"ok {kind}", 0) + (misses == 0)
    return spoken, counts


def _spoken(pupil: Pupil, lesson: Lesson, given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels and number of answer at each token to be said; `given` is of images."""
    core = pupil.model.model
    words = core.get_input_embeddings()(lesson.ids)
    here = (lesson.ids == pupil.model.config.image_token_id).unsqueeze(-1)
    joined = words.masked_scatter(here, given.to(words.dtype))
    hidden = core.language_model(
        inputs_embeds=joined,
        attention_mask=lesson.allowed,
        position_ids=lesson.positions,
        use_cache=False,
    ).last_hidden_state
    said = lesson.labels != IGNORED
    return pupil.model.lm_head(hidden[said]), lesson.labels[said], lesson.answers[said]


def _place_loss(pupil: Pupil, cells: Tensor) -> Tensor:
    """Each cell tells where it is: the encoder has no positions but what it finds out."""
    wanted = place_waves(round(cells.shape[1] ** 0.5), cells.device)
    told = pupil.place(cells).float()
    return functional.smooth_l1_loss(told, wanted.expand_as(told))
