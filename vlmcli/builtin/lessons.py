"""What one step teaches: losses, and counts for the log."""

import torch
from torch import Tensor
from torch.nn import functional

from vlmcli.builtin.batches import IGNORED, Lesson, Seen
from vlmcli.builtin.labels import Truth
from vlmcli.builtin.model import Pupil, normalized

Counts = dict[str, float]


def look(pupil: Pupil, seen: Seen) -> tuple[Tensor, Counts]:
    """Name the characters and things in pictures."""
    fine, coarse = pupil.see(normalized(seen.pixels))
    loss, counts = _dense(pupil, fine, coarse, seen.truth)
    return loss, {f"page {key}": value for key, value in counts.items()}


def _dense(pupil: Pupil, fine: Tensor, coarse: Tensor, truth: Truth) -> tuple[Tensor, Counts]:
    fine_loss, fine_counts = pupil.fine(fine, truth)
    coarse_loss, coarse_counts = pupil.coarse(coarse, truth)
    counts = {key: float(value) for key, value in coarse_counts.items()}
    counts |= {"fine char": float(fine_counts["char"]), "look loss": float(coarse_loss.detach())}
    return fine_loss + coarse_loss, counts


def answer(pupil: Pupil, lesson: Lesson, dense_weight: float) -> tuple[Tensor, Counts]:
    """Answer the questions, and name what is in the pictures beside."""
    fine, coarse = pupil.see(normalized(lesson.seen.pixels))
    dense, counts = _dense(pupil, fine, coarse, lesson.seen.truth)
    counts = {f"scene {key}": value for key, value in counts.items()}
    logits, labels, answers = _spoken(pupil, lesson, coarse)
    losses = functional.cross_entropy(logits.float(), labels, reduction="none")
    # Each answer weighs the root of its length: neither yes and no nor long captions rule.
    lengths = torch.bincount(answers, minlength=len(lesson.kinds)).clamp(min=1)
    weights = lengths[answers].float() ** -0.5
    spoken = (losses * weights).sum() / weights.sum()
    wrong = torch.zeros(len(lesson.kinds), device=labels.device)
    wrong.index_add_(0, answers, (logits.argmax(-1) != labels).float())
    for kind, misses in zip(lesson.kinds, wrong.tolist(), strict=True):
        counts[f"n {kind}"] = counts.get(f"n {kind}", 0) + 1
        counts[f"ok {kind}"] = counts.get(f"ok {kind}", 0) + (misses == 0)
    counts |= {"answer loss": float(spoken.detach()), "answer steps": 1.0}
    where = _place_loss(pupil, coarse)
    return 2 * spoken + dense_weight * dense + where, counts


def _spoken(pupil: Pupil, lesson: Lesson, coarse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels and number of answer at each token that is to be said."""
    core = pupil.model.model
    words = core.get_input_embeddings()(lesson.ids)
    here = (lesson.ids == pupil.model.config.image_token_id).unsqueeze(-1)
    joined = words.masked_scatter(here, core.multi_modal_projector(coarse).to(words.dtype))
    hidden = core.language_model(
        inputs_embeds=joined,
        attention_mask=lesson.allowed,
        position_ids=lesson.positions,
        use_cache=False,
    ).last_hidden_state
    said = lesson.labels != IGNORED
    return pupil.model.lm_head(hidden[said]), lesson.labels[said], lesson.answers[said]


def _place_loss(pupil: Pupil, coarse: Tensor) -> Tensor:
    """Each cell tells its row and column: the encoder has no positions but what it finds out."""
    side = round(coarse.shape[1] ** 0.5)
    steps = torch.linspace(-1, 1, side, device=coarse.device)
    target = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1).view(1, -1, 2)
    told = pupil.place(coarse).float()
    return functional.smooth_l1_loss(told, target.expand_as(told))
