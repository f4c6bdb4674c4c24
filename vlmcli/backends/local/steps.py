"""From the tokens chosen last to the logits of the next: by the model's own forward, or lean."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from vlmcli.backends.local.layers import Rewinding
from vlmcli.backends.local.lean import Lean, rope, turned

_ROOM = 256
"""Tokens for which memory is taken at a time."""

_KINDS = (DynamicLayer, DynamicSlidingWindowLayer, Rewinding)


class Forward:
    """The model's own forward, given what `generate` would give it."""

    def __init__(self, model: Any, inputs: dict[str, Any]) -> None:
        self._model, self._inputs = model, inputs

    @property
    def cache(self) -> Any:
        return self._inputs.get("past_key_values")

    @property
    def mask(self) -> torch.Tensor | None:
        """Of all tokens and the next, 0 where a row is filled up; None where none is."""
        mask: torch.Tensor | None = self._inputs.get("attention_mask")
        return None if mask is None or bool((mask == 1).all()) else mask

    def read(self, ids: torch.Tensor) -> torch.Tensor:
        """The logits after the prompts `ids`, of which the cache may hold the beginning."""
        known = 0 if self.cache is None else self.cache.get_seq_length()
        return self._run(ids, first=True, count=ids.shape[1] - known if known else None)

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        """The logits after all `ids`, the last of which are new: (rows, vocabulary)."""
        return self._run(ids, first=False, count=1)

    def position(self, ids: torch.Tensor) -> torch.Tensor | None:
        """Where the model would have its last tokens stand."""
        prepared = self._prepared(ids, first=False, count=1)
        positions: torch.Tensor | None = prepared.get("position_ids")
        return positions

    def _run(self, ids: torch.Tensor, *, first: bool, count: int | None) -> torch.Tensor:
        given = self._prepared(ids, first=first, count=count)
        made = self._model(**given, return_dict=True)
        self._inputs = self._model._update_model_kwargs_for_generation(
            made, self._inputs, is_encoder_decoder=False
        )
        logits: torch.Tensor = made.logits[:, -1]
        return logits

    def _prepared(self, ids: torch.Tensor, *, first: bool, count: int | None) -> dict[str, Any]:
        prepared: dict[str, Any] = self._model.prepare_inputs_for_generation(
            ids, next_sequence_length=count, is_first_iteration=first, **self._inputs
        )
        return prepared


@dataclass(slots=True)
class _Layer:
    """The keys and values of one layer, (rows, pairs, room, width) each, of which `length` tokens
    are known; of them it sees the last `window`."""

    keys: torch.Tensor
    values: torch.Tensor
    length: int
    window: int | None

    def grow(self) -> None:
        room = (*self.keys.shape[:2], _ROOM, self.keys.shape[-1])
        self.keys = torch.cat([self.keys, self.keys.new_empty(room)], dim=2)
        self.values = torch.cat([self.values, self.values.new_empty(room)], dim=2)


class Steps:
    """Lean steps after a prompt that the model has read into `cache`.

    `positions` are those of the next tokens, (rows or 1, 1), or the same on several axes; `mask`
    covers all tokens and the next.
    """

    def __init__(
        self,
        lean: Lean,
        cache: DynamicCache,
        rows: int,
        positions: torch.Tensor | None,
        mask: torch.Tensor | None,
    ) -> None:
        self._lean, self._cache, self._rows = lean, cache, rows
        self._seen = cache.get_seq_length()
        self._taken = 0
        if positions is None:
            positions = torch.tensor([[self._seen]], device=cache.layers[0].keys.device)
        self._positions = positions
        self._hidden = None if mask is None else mask[:, : self._seen] == 0
        self._layers = [_layer(layer) for layer in cache.layers]
        self._room = 0
        self._ropes: dict[str | None, tuple[torch.Tensor, torch.Tensor]] = {}
        self._mask: torch.Tensor | None = None
        self._grow()

    @property
    def masked(self) -> bool:
        return self._hidden is not None

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """The logits after one token more in each row: (rows,) -> (rows, vocabulary)."""
        if self._taken == self._room:
            self._grow()
        lean, at = self._lean, self._taken
        ropes = {kind: (cos[:, at], sin[:, at]) for kind, (cos, sin) in self._ropes.items()}
        x = lean.embed(tokens)  # (rows, hidden)
        for block, layer in zip(lean.blocks, self._layers, strict=True):
            heads = block.heads(block.before_attention(x)).view(self._rows, -1, block.width)
            # Queries and keys are turned together, values are not.
            turning, values = heads[:, : -block.pairs], heads[:, -block.pairs :]
            if block.norms is not None:
                queries, keys = turning[:, : block.queries], turning[:, block.queries :]
                turning = torch.cat([block.norms[0](queries), block.norms[1](keys)], dim=1)
            turning = turned(turning, *ropes[block.rope])
            layer.keys[:, :, layer.length] = turning[:, block.queries :]
            layer.values[:, :, layer.length] = values
            layer.length += 1
            seen = self._attend(turning[:, : block.queries], layer, block.scale)
            x = _added(x, block.out(seen), block.after_attention)
            x = _added(x, block.mlp(block.before_mlp(x)), block.after_mlp)
        self._taken += 1
        self._seen += 1
        return lean.head(lean.norm(x))

    def _attend(self, queries: torch.Tensor, layer: _Layer, scale: float) -> torch.Tensor:
        end = layer.length
        start = 0 if layer.window is None else max(0, end - layer.window)
        keys, values = layer.keys[:, :, start:end], layer.values[:, :, start:end]
        mask = None
        if self._mask is not None:
            mask = self._mask[..., self._seen + 1 - (end - start) : self._seen + 1]
        rows, pairs = keys.shape[:2]
        # The heads that share keys stand where else the tokens do: no copy for each is made.
        grouped = queries.reshape(rows, pairs, -1, queries.shape[-1])
        seen = functional.scaled_dot_product_attention(
            grouped, keys, values, attn_mask=mask, scale=scale
        )
        return seen.reshape(rows, -1)

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only."""
        self._rows = len(rows)
        for layer in self._layers:
            layer.keys, layer.values = layer.keys[rows], layer.values[rows]
        if self._positions.shape[-2] > 1:
            self._positions = self._positions[..., rows, :]
            self._ropes = {k: (cos[rows], sin[rows]) for k, (cos, sin) in self._ropes.items()}
        if self._hidden is not None and self._mask is not None:
            self._hidden, self._mask = self._hidden[rows], self._mask[rows]

    def give_back(self) -> None:
        """Let the cache hold all that was read, in this memory and no other."""
        for layer, kept in zip(self._layers, self._cache.layers, strict=True):
            kept.keys = layer.keys[:, :, : layer.length]
            kept.values = layer.values[:, :, : layer.length]
            if layer.window is not None:
                kept.cumulative_length = self._seen

    def _grow(self) -> None:
        self._room += _ROOM
        for layer in self._layers:
            layer.grow()
        every = self._positions + torch.arange(self._room, device=self._positions.device)
        kinds = dict.fromkeys(block.rope for block in self._lean.blocks)
        self._ropes = {kind: rope(self._lean, kind, every) for kind in kinds}
        if self._hidden is not None:
            mask = functional.pad(self._hidden, (0, self._seen - self._hidden.shape[1] + _ROOM))
            zeros = torch.zeros(mask.shape, dtype=self._lean.dtype, device=mask.device)
            self._mask = zeros.masked_fill(mask, -torch.inf)[:, None, None]
        if self._taken:  # or nobody knows yet whether these steps are right
            self.give_back()


def _layer(layer: Any) -> _Layer:
    length = layer.keys.shape[-2]
    return _Layer(layer.keys, layer.values, length, getattr(layer, "sliding_window", None))


def _added(x: torch.Tensor, more: torch.Tensor, norm: Any) -> torch.Tensor:
    return x.add_(more if norm is None else norm(more))


def lean_steps(lean: Lean, forward: Forward, ids: torch.Tensor) -> Steps | None:
    """Lean steps that go on from what the model has read; None where they cannot."""
    cache = forward.cache
    if type(cache) is not DynamicCache or len(cache.layers) != len(lean.blocks):
        return None
    if not all(type(layer) in _KINDS and layer.is_initialized for layer in cache.layers):
        return None
    positions = forward.position(ids)
    if positions is not None and positions.ndim == 3:
        # Of four axes the first is there for masks alone (Qwen's).
        positions = positions[1:] if len(positions) == 4 else positions
        if not bool((positions == positions[:1]).all()):
            return None
    return Steps(lean, cache, len(ids), positions, forward.mask)
