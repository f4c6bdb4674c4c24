"""Whether a model can answer about pictures here: told from its config.json, before any weights."""

import json
from typing import Any

import transformers
from transformers.models.auto import modeling_auto as auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from vlmcli import hub
from vlmcli.errors import ModelError
from vlmcli.hub import ModelRef
from vlmcli.models.files import CONFIG, read_quietly

# What to call a model that cannot: the first mapping of transformers that holds its type.
_KINDS = (
    (auto.MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES, "compares pictures with texts"),
    (auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, "reads and writes text only"),
    (auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES, "writes down speech"),
    (auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES, "turns text into text"),
    (auto.MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES, "finds objects in pictures"),
    (auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES, "sorts pictures into classes"),
    (auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES, "reads text only"),
)
OWN_CODE = "auto_map"


def check(ref: ModelRef, *, run_code: bool) -> None:
    """Raise ModelError if the model is none that sees and speaks, or needs more than is here."""
    config = _config(ref)
    kind = config.get("model_type")
    if OWN_CODE in config and (run_code or kind not in CONFIG_MAPPING):
        if not run_code:
            raise _brings_code(ref)
        return
    if kind is None:
        hint = "it may be made for another program; see its page on the Hub"
        raise ModelError(f"{ref.name} is no model of transformers: no model_type", hint=hint)
    if kind not in CONFIG_MAPPING:
        raise _too_new(ref, config)
    if kind not in auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        does = next((does for names, does in _KINDS if kind in names), "does something else")
        raise ModelError(
            f"{ref.name} is not a vision-language model: {_called(config, kind)} {does}",
            hint="vlm models ls --recommended lists some that are",
        )


def _config(ref: ModelRef) -> dict[str, Any]:
    try:
        config = json.loads(read_quietly(ref.folder / CONFIG))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(ref) from error
    if not isinstance(config, dict):
        raise _damaged(ref)
    return config


def _damaged(ref: ModelRef) -> ModelError:
    hint = f"vlm models verify {ref.name} mends it" if ref.revision else "get the folder again"
    return ModelError(f"{ref.name}: config.json is damaged", hint=hint)


def _called(config: dict[str, Any], kind: str) -> str:
    classes = config.get("architectures")
    return str(classes[0]) if isinstance(classes, list) and classes else kind


def _brings_code(ref: ModelRef) -> ModelError:
    files = ", ".join(hub.code_files(ref)) or "in another repo"
    return ModelError(
        f"{ref.name} brings program code of its own ({files}), which was not run",
        hint="--trust-remote-code runs it: read it first; or is there one for transformers (…-hf)?",
    )


def _too_new(ref: ModelRef, config: dict[str, Any]) -> ModelError:
    wanted = config.get("transformers_version")
    reason = (
        f"{ref.name} is of the type {config['model_type']!r}, which transformers"
        f" {transformers.__version__} does not know"
    )
    if isinstance(wanted, str) and wanted:
        hint = f"it was made with {wanted}: pip install -U 'transformers>={wanted}'"
    else:
        hint = "a newer one may: pip install -U transformers"
    return ModelError(reason, hint=hint)
