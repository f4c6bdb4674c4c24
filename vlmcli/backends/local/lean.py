"""One token more from the weights themselves, for text models of the shape of Llama.

A model's own forward spends as long on Python, masks and small operations as on reading its
weights. Here a step is those operations that a token needs. Whether a model is of that shape is
told from its modules, and it is not believed before its own forward has said the same once.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from inspect import signature
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.nn import functional

from vlmcli.backends.local import linears
from vlmcli.backends.local.inputs import REFUSALS
from vlmcli.backends.local.linears import Function

_TEXT = {"embed_tokens", "layers", "norm", "rotary_emb"}
_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
_HEAD_NORMS = {"q_norm", "k_norm"}
_MLP = {"gate_proj", "up_proj", "down_proj", "act_fn"}
_BLOCK = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
# Gemma 2 and 3 also put a norm behind each half, and call the two before the halves otherwise.
_INNER_NORMS = {"pre_feedforward_layernorm", "post_feedforward_layernorm"}
_ROTARY_NAMES = {"rotary_emb"}  # older models keep one in each layer, too

_ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-6}
_ROUNDING_16_BITS = 0.05
"""Of the largest logit: how far another order of the same sums is off."""


@dataclass(frozen=True, slots=True)
class Block:
    """A layer of a text model, as functions of rows of numbers; `rope` names its kind of rope."""

    before_attention: Function
    heads: Function  # queries, keys and values, side by side
    norms: tuple[Function, Function] | None
    out: Function
    after_attention: Function | None
    before_mlp: Function
    mlp: Function
    after_mlp: Function | None
    queries: int
    pairs: int  # of keys and values
    width: int
    scale: float
    rope: str | None


@dataclass(slots=True)
class Lean:
    """A text model with its head. `trusted` are the cases in which its own forward was compared:
    with a mask, and without."""

    embed: Function
    blocks: Sequence[Block]
    norm: Function
    head: Function
    rotary: Any
    dtype: torch.dtype
    trusted: set[bool] = field(default_factory=set)

    def agrees(self, logits: torch.Tensor, own: torch.Tensor, *, masked: bool) -> bool:
        """Whether what a step gave is, but for rounding, what the model itself gives."""
        difference = (logits.float() - own.float()).abs().max()
        rounding = _ROUNDING.get(self.dtype, _ROUNDING_16_BITS)
        agrees = bool(difference <= rounding * own.float().abs().max())
        if agrees:
            self.trusted.add(masked)
        return agrees


_known: WeakKeyDictionary[Any, Lean | None] = WeakKeyDictionary()


def of(model: Any) -> Lean | None:
    """The lean form of a loaded model; None where there is none, or it was found wrong."""
    if model not in _known:
        _known[model] = None
        # What a model of another shape lacks, or does not take.
        with suppress(AttributeError, *REFUSALS), torch.inference_mode(False), torch.no_grad():
            _known[model] = _recognised(model)
    return _known[model]


def distrust(model: Any) -> None:
    """Take the model's own forward from now on."""
    _known[model] = None


def _recognised(model: Any) -> Lean | None:
    text = model.get_decoder()
    head = model.get_output_embeddings()
    names = {name for name, _ in text.named_children()}
    # Elsewhere than on a CPU it was never run.
    if names != _TEXT or head is None or model.device.type != "cpu":
        return None
    # Gemma 3 turns its sliding layers otherwise than the rest.
    kinds = "layer_type" in signature(text.rotary_emb.forward).parameters
    blocks = [_block(layer, number, kinds) for number, layer in enumerate(text.layers)]
    if not blocks or any(block is None for block in blocks):
        return None
    lean = Lean(
        text.embed_tokens.forward,
        [block for block in blocks if block is not None],
        _norm(text.norm),
        linears.function(head),
        text.rotary_emb,
        text.dtype,
    )
    at_start = torch.zeros(3, 1, 1, dtype=torch.long)
    widths = {rope(lean, block.rope, at_start)[0].shape[-1] - block.width for block in lean.blocks}
    return lean if widths == {0} else None


def _block(layer: Any, number: int, kinds: bool) -> Block | None:
    if not _made_of(layer, _BLOCK, _INNER_NORMS):
        return None
    attention, mlp = layer.self_attn, layer.mlp
    if (
        not _made_of(attention, _ATTENTION, _HEAD_NORMS, _ROTARY_NAMES)
        or not _made_of(mlp, _MLP)
        or getattr(attention, "layer_idx", None) != number
        or getattr(attention, "attn_logit_softcapping", None) is not None
    ):
        return None
    width = int(attention.head_dim)
    projections = [attention.q_proj, attention.k_proj, attention.v_proj]
    sizes = [int(projection.out_features) for projection in projections]
    if sizes[1] != sizes[2] or sizes[1] % width or sizes[0] % sizes[1]:
        return None
    inner = hasattr(layer, "pre_feedforward_layernorm")
    second = layer.pre_feedforward_layernorm if inner else layer.post_attention_layernorm
    has_norms = hasattr(attention, "q_norm")
    return Block(
        before_attention=_norm(layer.input_layernorm),
        heads=_together(projections),
        norms=(_norm(attention.q_norm), _norm(attention.k_norm)) if has_norms else None,
        out=linears.function(attention.o_proj),
        after_attention=_norm(layer.post_attention_layernorm) if inner else None,
        before_mlp=_norm(second),
        mlp=_mlp(mlp),
        after_mlp=_norm(layer.post_feedforward_layernorm) if inner else None,
        queries=sizes[0] // width,
        pairs=sizes[1] // width,
        width=width,
        scale=float(attention.scaling),
        rope=attention.layer_type if kinds else None,
    )


def _made_of(module: Any, needed: set[str], *together: set[str]) -> bool:
    """Whether a module has these parts and, all of a group or none, others, but nothing else."""
    names = {name for name, _ in module.named_children()}
    own = {name for name, _ in module.named_parameters(recurse=False)}
    rest = names - needed
    for group in together:
        if rest >= group:
            rest -= group
    return names >= needed and not rest and not own


def _together(layers: Sequence[Any]) -> Function:
    if (one := linears.joined(layers)) is not None:
        return linears.function(one)
    functions = [linears.function(layer) for layer in layers]
    return lambda x: torch.cat([function(x) for function in functions], dim=-1)


def _mlp(mlp: Any) -> Function:
    up, down = _together([mlp.gate_proj, mlp.up_proj]), linears.function(mlp.down_proj)
    activate = mlp.act_fn.forward

    def function(x: torch.Tensor) -> torch.Tensor:
        gate, rest = up(x).chunk(2, dim=-1)
        return down(activate(gate).mul_(rest))

    return function


def _norm(module: Any) -> Function:
    """A norm in two operations where that gives its very bits."""
    forward: Function = module.forward
    weight = getattr(module, "weight", None)
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if not isinstance(weight, torch.Tensor) or eps is None:
        return forward
    size, shifted = weight.shape, 1.0 + weight.data.float()

    def llama(x: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(x, size, None, eps).mul_(weight)

    def gemma(x: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(x.float(), size, shifted, eps).to(x.dtype)

    generator = torch.Generator(weight.device).manual_seed(0)
    example = torch.randn(4, *size, generator=generator, device=weight.device).to(weight.dtype)
    expected = forward(example)
    return next((f for f in (llama, gemma) if torch.equal(f(example), expected)), forward)


def rope(
    lean: Lean, kind: str | None, positions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The cosines of a kind of rope, and its sines with the sign that they have for `turned`.

    `positions` are (rows, tokens), or (axes, rows, tokens) alike on all axes; both results are
    (rows, tokens, 1, width).
    """
    like = torch.empty(0, dtype=lean.dtype, device=positions.device)
    made = lean.rotary(like, positions, *([] if kind is None else [kind]))
    cos, sin = (part[0] if part.ndim == 4 else part for part in made)
    half = cos.shape[-1] // 2
    signed = torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)
    return cos.unsqueeze(-2), signed.unsqueeze(-2)


def turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Heads at their positions: the second half of each takes the place of the first."""
    return (x * cos).add_(x.roll(x.shape[-1] // 2, -1).mul_(sin))
