"""The model: stock parts of transformers, small, and started so that they learn.

LLaVA joins them: a FocalNet (an encoder of convolutions, which finds letters wherever they stand,
where a plain ViT has to learn each place for itself) and a small Llama. No code of our own is
needed to load it.
"""

import json
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    FocalNetConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from vlmcli.builtin import tokens
from vlmcli.builtin.drawing import CELL, SIDE
from vlmcli.builtin.heads import DeepHead, DenseHead, FineHead
from vlmcli.builtin.ideal import IdealEye
from vlmcli.builtin.labels import PLACE_WAVES, SPOKEN

IMAGE_TOKENS = (SIDE // CELL) ** 2
_EMBED, _STAGES, _TEXT_WIDTH = 64, (1, 4, 2), 256
EYE_WIDTH = _EMBED * 2 ** (len(_STAGES) - 1)

LOUDNESS = 64.0
"""How large the numbers of the eye are. LLaVA has no norm between it and the connector, which
learns nothing from such: in training they are made smaller, and in the model its weights are."""
CONNECTOR = "model.multi_modal_projector.linear_1.weight"

# After SmolVLM's, with a turn of any role, and content that is a string or a list; no blanks and no
# newlines between, which would be tokens of their own.
CHAT_TEMPLATE = (
    "<|im_start|>{% for message in messages %}"
    "{{ message['role'] | capitalize }}:"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% elif part['type'] == 'text' %}{{ part['text'] }}"
    "{% endif %}{% endfor %}{% endif %}<end_of_utterance>{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


def config(tokenizer: PreTrainedTokenizerFast) -> LlavaConfig:
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    eye = FocalNetConfig(
        image_size=SIDE,
        patch_size=4,
        embed_dim=_EMBED,
        hidden_size=EYE_WIDTH,  # what the connector asks for
        hidden_sizes=[_EMBED * 2**i for i in range(len(_STAGES))],
        depths=list(_STAGES),
        focal_levels=[2] * len(_STAGES),
        focal_windows=[3] * len(_STAGES),
        use_conv_embed=True,
        hidden_act="relu",
        mlp_ratio=3.0,
        drop_path_rate=0.0,
    )
    voice = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=_TEXT_WIDTH,
        intermediate_size=704,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        pad_token_id=pad,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=end,
    )
    return LlavaConfig(
        vision_config=eye,
        text_config=voice,
        image_token_index=tokenizer.convert_tokens_to_ids(tokens.IMAGE),
        image_seq_length=IMAGE_TOKENS,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
        pad_token_id=pad,
    )


def build(tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """The model before training."""
    made = LlavaForConditionalGeneration(config(tokenizer))
    for module in made.modules():
        # transformers starts every weight at 0.02, which all but silences layers this narrow.
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    # At first every layer adds a little to the words, or what is to be copied drowns in noise.
    for layer in made.model.language_model.layers:
        for last in (layer.self_attn.o_proj, layer.mlp.down_proj):
            nn.init.normal_(last.weight, std=0.1 * last.weight[0].numel() ** -0.5)
    embedding = made.get_input_embeddings().weight
    nn.init.normal_(embedding, std=_TEXT_WIDTH**-0.5)
    return made


class Pupil(nn.Module):
    """The model with what is thrown away after its training."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.model = build(tokenizer)
        # For rows as short as these the fused kernels of a CPU take longer.
        self.model.model.language_model.set_attn_implementation("eager")
        self.dense = DenseHead(EYE_WIDTH)
        self.fine = FineHead(EYE_WIDTH // 2)
        self.deep = DeepHead(_TEXT_WIDTH)
        self.place = nn.Sequential(nn.LayerNorm(EYE_WIDTH), nn.Linear(EYE_WIDTH, PLACE_WAVES))
        self.ideal = IdealEye(_TEXT_WIDTH)
        self._spoken = tokenizer.convert_tokens_to_ids(list(SPOKEN))
        for module in self.model.model.vision_tower.modules():
            if isinstance(module, nn.Conv2d) and module.groups > 1:
                module.forward = partial(_depthwise, module)  # type: ignore[method-assign]

    def connect(self, cells: Tensor) -> Tensor:
        """What the eye sees -> what the decoder is given: (pictures, cells, width)."""
        told: Tensor = self.model.model.multi_modal_projector(cells / LOUDNESS)
        return told

    def spoken(self) -> Tensor:
        """How the decoder says what there is in pictures: (len(SPOKEN), width)."""
        words: Tensor = self.model.get_input_embeddings().weight
        return words[self._spoken]

    def see(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(pictures, 3, height, width) -> (pictures, cells, EYE_WIDTH), and the stage before."""
        finer: list[Tensor] = []
        last = self.model.model.vision_tower.encoder.stages[-2].layers[-1]
        hook = last.register_forward_hook(lambda _module, _given, made: finer.append(made))
        try:
            seen = self.model.model.vision_tower(pixels, output_hidden_states=True)
        finally:
            hook.remove()
        cells: Tensor = seen.hidden_states[-1]
        return cells, finer[0]


def _depthwise(module: nn.Conv2d, pixels: Tensor) -> Tensor:
    """In fp32 on a CPU: the gradient of a wide kernel takes three times as long in bf16."""
    if pixels.device.type != "cpu" or pixels.dtype != torch.bfloat16:
        return nn.Conv2d.forward(module, pixels)
    with torch.autocast("cpu", enabled=False):
        floats = pixels.float().contiguous(memory_format=torch.channels_last)
        return nn.Conv2d.forward(module, floats).to(pixels.dtype)


def normalized(pixels: Tensor) -> Tensor:
    """(pictures, height, width, 3) uint8 -> what the processor makes of it."""
    floats = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
    return floats.contiguous(memory_format=torch.channels_last)


def save_processor(folder: Path) -> None:
    """Everything but the weights: tokenizer, processor, template, settings of the generation."""
    tokenizer = tokens.save(folder)
    sides = {"height": SIDE, "width": SIDE}
    image_processor = {
        "image_processor_type": "LlavaImageProcessor",
        "do_convert_rgb": True,
        "do_pad": True,  # to a square: shapes keep their proportions
        "do_resize": True,
        "size": sides,
        "resample": 3,
        "do_center_crop": False,
        "crop_size": sides,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    processor = {
        "processor_class": "LlavaProcessor",
        "patch_size": CELL,
        "vision_feature_select_strategy": "full",
        "num_additional_image_tokens": 0,
        "image_token": tokens.IMAGE,
    }
    _write(folder / "preprocessor_config.json", image_processor)
    _write(folder / "processor_config.json", processor)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    GenerationConfig(
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
    ).save_pretrained(folder)


def _write(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
