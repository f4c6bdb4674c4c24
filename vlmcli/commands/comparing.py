"""What `vlm compare` does: model after model, each in a process of its own, asked the same."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlmcli import answers, apart, backends, memory, messages, output, wording
from vlmcli.errors import InputError, OutputError, VlmError
from vlmcli.inputs import pictures
from vlmcli.messages import Message, seen_of
from vlmcli.output import Side
from vlmcli.settings import Settings

Record = Mapping[str, Any]
Result = Record | VlmError
"""What a model answered, as its record tells it, or why there is no answer."""


MEASURED = ("first token", "total", "speed", "load", "memory", "GPU memory", "picture")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One run of `vlm compare`; `settings` are those of each model."""

    settings: Sequence[Settings]
    question: str
    each: bool = False
    recursive: bool = False

    def run(self, files: Sequence[str]) -> int:
        """Ask them all, and show it; the exit code of the first that failed, or 0."""
        first = self.settings[0]
        seen = pictures.read_all(files, first, recursive=self.recursive)
        conversations = [
            wording.instructed([messages.user(self.question, together)], first.system, first.lang)
            for together in ([[one] for one in seen] if self.each else [seen])
        ]
        results = [self._ask(settings, conversations) for settings in self.settings]
        failures = [one for each in results for one in each if isinstance(one, VlmError)]
        if not first.json:
            models = [settings.model for settings in self.settings]
            for number, conversation in enumerate(conversations):
                sides = [_side(m, r[number]) for m, r in zip(models, results, strict=True)]
                output.side_by_side(_name(conversation) if self.each else "", sides)
        return failures[0].exit_code if failures else 0

    def _ask(self, settings: Settings, conversations: Sequence[list[Message]]) -> list[Result]:
        results: list[Result] = []
        try:
            for result in apart.iterate(settings.model, measure, settings, conversations):
                results.append(result)
                self._tell(settings, conversations[len(results) - 1], result)
        except OutputError:  # ours, and of no model
            raise
        except VlmError as error:
            for conversation in conversations[len(results) :]:
                results.append(error)
                self._tell(settings, conversation, error)
        return results

    def _tell(self, settings: Settings, conversation: list[Message], result: Result) -> None:
        """In JSON, each answer at once; what failed, unless the table will say it."""
        if isinstance(result, VlmError):
            if settings.json:
                name = _name(conversation)
                output.record({"file": name, "model": settings.model, "error": str(result)})
            if settings.json or not sys.stdout.isatty():
                output.error(_of_model(settings.model, result))
        elif settings.json:
            output.record(result)


def measure(settings: Settings, conversations: Sequence[list[Message]]) -> Iterator[Result]:
    """Load a model and ask it; a record each, with what it took, or what is wrong with the picture.

    Raises VlmError if the model cannot be asked at all.
    """
    backends.start()
    from vlmcli import device as devices  # torch, which this process has and its parent has not

    began = time.perf_counter()
    engine = answers.load(settings)
    load_s = time.perf_counter() - began
    with output.progress(len(conversations)) as bar:
        for conversation in conversations:
            try:
                with output.status("looking"):
                    answer = answers.collect(engine, conversation, settings)
            except InputError as error:  # of a picture that this model refuses
                yield error
                bar.advance(failed=True)
                continue
            name, said = _name(conversation), bool(answer.text)
            answers.finish(engine, answer.done, settings, name, said=said)
            gpu = devices.peak_bytes(engine.device)
            yield {
                **answers.record(engine, conversation, answer, settings),
                "load_seconds": round(load_s, 4),
                "peak_bytes": memory.peak_bytes(),
                **({"device_peak_bytes": gpu} if gpu is not None else {}),
            }
            bar.advance()


def _of_model(model: str, error: VlmError) -> VlmError:
    """The error, with the name of the model that it is of."""
    if error.message.startswith(model):
        return error
    return VlmError(f"{model}: {error.message}", hint=error.hint)


def _name(conversation: Sequence[Message]) -> str:
    return ", ".join(one.name for one in seen_of(conversation))


def _side(model: str, result: Result) -> Side:
    """A column of the comparison: what is shown, and what a script is given."""
    if isinstance(result, VlmError):
        return Side(model, str(result), dict.fromkeys(MEASURED, ("", "")), failed=True)
    first_s, all_s = result["seconds_to_first_token"], result["seconds"]
    # With choices, tokens are weighed and none is written.
    decoded, decode_s = result["new_tokens"] - 1, all_s - first_s
    decoded = 0 if "probabilities" in result else decoded
    rate = decoded / decode_s if decoded > 0 and decode_s > 0 else None
    gpu, image_tokens = result.get("device_peak_bytes"), result["image_tokens"]
    told = (
        (f"{first_s:.2f} s", f"{first_s:.4f}"),
        (f"{all_s:.2f} s", f"{all_s:.4f}"),
        (f"{rate:.1f} tok/s", f"{rate:.2f}") if rate else ("", ""),
        (f"{result['load_seconds']:.1f} s", f"{result['load_seconds']:.4f}"),
        (output.size(result["peak_bytes"]), str(result["peak_bytes"])),
        (output.size(gpu), str(gpu)) if gpu is not None else ("", ""),
        (f"{image_tokens} tokens", str(image_tokens)) if image_tokens else ("", ""),
    )
    return Side(result["model"], result["text"], dict(zip(MEASURED, told, strict=True)))
