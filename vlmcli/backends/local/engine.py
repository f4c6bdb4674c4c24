"""Load a model from the Hub's cache or a folder, and answer with it."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText

from vlmcli import device as devices
from vlmcli import hub, output, phases
from vlmcli.backends import Engine, Preview, Reader, uncollected
from vlmcli.backends.local import (
    decode,
    features,
    lean,
    likelihood,
    processors,
    prompt,
    quantize,
    room,
    suits,
)
from vlmcli.backends.local.cache import Memory
from vlmcli.backends.local.many import Many
from vlmcli.backends.local.processors import Processor
from vlmcli.backends.local.resolution import Sight
from vlmcli.backends.local.weights import Unfilled
from vlmcli.cpu import worker
from vlmcli.device import Device
from vlmcli.errors import DeviceError, ModelError, UsageError, VlmError
from vlmcli.hub import ModelRef
from vlmcli.messages import Chosen, Chunk, Delta, Done, Message, Sampling, Verdict
from vlmcli.models import files, names
from vlmcli.settings import Settings

CACHE_TOKENS = 2048
"""The length of prompt and answer that the check of the memory plans for."""


def load(settings: Settings, *, remembers: bool = True) -> Engine:
    """The model that the settings name, on the device that they name.

    Of a conversation that goes on it reads only what is new, unless `remembers` is False.
    """
    worker.threads()  # before anything is multiplied on this one
    device = devices.choose(settings.device, settings.dtype)
    kind = quantize.resolve(settings.quantize, device)
    ref = _find(settings, device)
    with output.status(f"loading {ref.name}"), uncollected():
        processor = _processor(ref, settings, device)
        kind = quantize.check(kind, settings.quantize, processor.config, ref.name)
        needed = needed_bytes(ref.folder, processor.config, device.dtype, kind)
        devices.check_fits(needed, device, ref.name)
        model = worker.do(partial(_load_weights, ref, device, settings, kind))
    fingerprint = _fingerprint(ref, settings) if ref.revision is None else None
    weights = fingerprint or (lambda: str(ref.revision))
    seen = features.of(model, weights, device, kind, settings)
    memory = Memory(model, processor) if remembers else None

    def generate(conversation: Sequence[Message], sampling: Sampling) -> Iterator[Chunk]:
        if sampling.schema is not None:
            prompt.check_answers(processor)
        ready = prompt.prepare(processor, conversation)

        def run(emit: Any) -> Done:
            with _explaining(ref, device), seen.answering(ready.views) as told:
                emit(Delta(""))  # perhaps nobody waits any more: what was broken off has to end
                done = decode.generate_text(model, processor, ready, sampling, emit, memory)
                return _timed(told(done))

        return decode.stream(run)

    def affirm(conversation: Sequence[Message]) -> Verdict:
        prompt.check_answers(processor)
        ready = prompt.prepare(processor, conversation)
        remembered = memory or Memory(model, processor)

        def run() -> Verdict:
            with _explaining(ref, device), seen.answering(ready.views) as told:
                verdict = likelihood.affirm(model, processor, ready, remembered)
                return replace(verdict, done=_timed(told(verdict.done)))

        return worker.do(run)

    def choose(conversation: Sequence[Message], choices: Sequence[str]) -> Chosen:
        prompt.check_answers(processor)
        ready = prompt.prepare(processor, conversation)
        remembered = memory or Memory(model, processor)

        def run() -> Chosen:
            with _explaining(ref, device), seen.answering(ready.views) as told:
                chosen = likelihood.choose(model, processor, ready, choices, remembered)
                return replace(chosen, done=_timed(told(chosen.done)))

        return worker.do(run)

    many = Many(model, processor, device.name, partial(_explaining, ref, device), seen)
    return Engine(
        model=ref.name,
        revision=ref.revision,
        device=device.name,
        dtype=device.dtype_name,
        quantize=kind,
        why=", ".join(filter(None, (device.why, quantize.describe(kind, device)))),
        note=ref.note,
        generate=generate,
        budget=partial(prompt.frame_budget, processor, ref.folder),
        preview=partial(_preview, processor),
        context_tokens=processor.context_tokens,
        affirm=affirm,
        fingerprint=fingerprint,
        packages=("torch", "torchvision", "transformers"),
        choose=choose,
        generate_many=many.generate,
        affirm_many=many.affirm,
        prepare=many.prepare,
        most_together=many.most,
    )


def _timed(done: Done) -> Done:
    return replace(done, phases=phases.take())


def identify(settings: Settings) -> tuple[str, str | None]:
    """The name of the model that the settings name, and its commit or fingerprint; nothing of the
    weights is fetched."""
    ref = _find(settings, devices.choose(settings.device, settings.dtype), weights=False)
    return ref.name, ref.revision or _fingerprint(ref, settings)()


def _fingerprint(ref: ModelRef, settings: Settings) -> Callable[[], str]:
    need = hub.Need(True, settings.allow_pickle, settings.trust_remote_code)
    return cache(partial(files.fingerprint, ref.folder, need))


def read(settings: Settings) -> Reader:
    """The model's processor, without its weights."""
    device = devices.choose(settings.device, settings.dtype)
    ref = _find(settings, device, weights=False)
    processor = _processor(ref, settings, device)
    return Reader(
        ref.name,
        ref.revision,
        partial(prompt.frame_budget, processor, ref.folder),
        partial(_preview, processor),
    )


def _preview(processor: Processor, conversation: Sequence[Message]) -> Preview:
    ready = prompt.prepare(processor, conversation)
    seen = prompt.preview_images(processor, conversation, ready)
    return Preview(ready.text, ready.prompt_tokens, seen)


@phases.noted("model")
def _find(settings: Settings, device: Device, *, weights: bool = True) -> ModelRef:
    with output.downloads() as watch:
        find = partial(_resolve, settings, device, watch)
        ref = find(hub.Need(False, settings.allow_pickle, settings.trust_remote_code))
        # Before gigabytes of weights are fetched of what could not answer anyway.
        suits.check(ref, run_code=settings.trust_remote_code)
        if not weights:
            return ref
        # A Hub that was out of reach for the texts is not waited for once more.
        return find(hub.Need(True, settings.allow_pickle), offline=bool(ref.note))


def _resolve(
    settings: Settings, device: Device, watch: hub.Watch, need: hub.Need, *, offline: bool = False
) -> ModelRef:
    offline = offline or settings.offline
    revision, asked_for = settings.revision, settings.origins["revision"] == "--revision"
    if settings.model == "auto":
        if revision is not None and asked_for:
            raise UsageError(f"--revision {revision}: of which model?", hint="name one with -m")
        return hub.resolve_auto(device.free_bytes, offline=offline, need=need, watch=watch)
    if not asked_for and names.local_folder(settings.model):
        revision = None  # a habit written down for the Hub; a folder has none
    return hub.resolve(settings.model, revision=revision, offline=offline, need=need, watch=watch)


@phases.noted("processor")
def _processor(ref: ModelRef, settings: Settings, device: Device) -> Processor:
    run_code = settings.trust_remote_code
    if run_code and (files := hub.code_files(ref)):
        output.note(f"running the program code of {ref.name}: {', '.join(files)}")
    processor = processors.load(ref.folder, ref.name, run_code=run_code)
    on_cpu = device.name == "cpu"
    sight = Sight(settings.detail, settings.max_image_tokens, on_cpu=on_cpu)
    processor = replace(processor, sight=sight)
    prompt.check_bound(processor)
    return processor


@phases.noted("weights")
def _load_weights(ref: ModelRef, device: Device, settings: Settings, kind: str) -> Any:
    placed = quantize.while_loading(kind, device)
    try:
        with Unfilled():
            model, report = _loader(ref, settings).from_pretrained(
                ref.folder,
                dtype=device.dtype,
                use_safetensors=None if settings.allow_pickle else True,
                local_files_only=True,
                trust_remote_code=settings.trust_remote_code,
                output_loading_info=True,
                **placed,
            )
        # What is missing would be made up at random, and the answer with it.
        if missing := sorted(report["missing_keys"]):
            raise ModelError(
                f"{ref.name}: {len(missing)} weights are missing, {missing[0]} first",
                hint=f"vlm models verify {ref.name} looks for damage",
            )
        if placed:
            return model.eval()
        if kind != quantize.NONE:
            quantize.apply(model, kind, ref.name)
            lean.of(model)  # joins layers, which can be done no more once they were used
        return model.to(device.name).eval()
    except torch.OutOfMemoryError as error:
        raise _out_of_memory(ref, device) from error
    except (SafetensorError, ImportError, ValueError, OSError, KeyError, RuntimeError) as error:
        raise processors.explain(error, ref.name) from error


def _loader(ref: ModelRef, settings: Settings) -> Any:
    """The class that loads the model: its own, if it brings one that may run."""
    if settings.trust_remote_code:
        own = json.loads((ref.folder / "config.json").read_bytes()).get(suits.OWN_CODE, {})
        for loader in (AutoModelForImageTextToText, AutoModelForCausalLM, AutoModel):
            if loader.__name__ in own:
                return loader
    return AutoModelForImageTextToText


@contextmanager
def _explaining(ref: ModelRef, device: Device) -> Iterator[None]:
    """Raises what a failed answer means to the user."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if (known := _explained(error, ref, device)) is None:
            raise
        raise known from error


def _explained(error: Exception, ref: ModelRef, device: Device) -> VlmError | None:
    """What a failed answer means to the user; None for a bug.

    One of torch's failures is a plain RuntimeError, so only its text tells.
    """
    if devices.is_out_of_memory(error):
        return _out_of_memory(ref, device)
    if "probability tensor contains" in str(error):
        return ModelError(
            f"{ref.name} gives no finite probabilities in {device.dtype_name}",
            hint="take another --dtype, or a -t nearer to 1",
        )
    return None


def _out_of_memory(ref: ModelRef, device: Device) -> DeviceError:
    return DeviceError(
        f"{ref.name} ran out of memory on {device.name}",
        hint="send fewer pictures, --detail low, lower -n, or take a smaller model",
    )


def needed_bytes(folder: Path, config: Any, dtype: torch.dtype, kind: str = quantize.NONE) -> int:
    """Memory for the weights in `dtype`, quantized or not, and for a key-value cache of
    CACHE_TOKENS, in bytes."""
    weights = quantize.weight_bytes(folder, config, dtype, kind)
    return weights + CACHE_TOKENS * room.cache_bytes(config, dtype)
