"""What `vlm replay` does: record after record, asked again of the same model about the same."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vlmcli import __version__, answers, config, output, records, sources
from vlmcli.backends import Engine
from vlmcli.commands.places import Places
from vlmcli.errors import DeviceError, ExitCode, InputError, ModelError, UsageError, VlmError, shown
from vlmcli.messages import Done, Image, Video
from vlmcli.records import Recorded
from vlmcli.settings import SEEING, TABLE, Settings
from vlmcli.timecodes import clock

Key = tuple[object, ...]
"""All that makes one loaded model another."""

_LOADED = ("model", "revision", "device", "dtype")
"""What a record says of the model itself; of how it sees, its settings do."""


@dataclass(slots=True)
class Replay:
    """One run of `vlm replay`; `diff` is whether to show how texts differ, None for a terminal."""

    settings: Settings
    places: Places
    diff: bool | None = None
    _engine: Engine | None = field(default=None, init=False)
    _loaded: Key | None = field(default=None, init=False)
    _refused: dict[Key, VlmError] = field(default_factory=dict, init=False)
    _reasons: set[str] = field(default_factory=set, init=False)
    _said: set[str] = field(default_factory=set, init=False)

    def run(self, file: str) -> int:
        """Replay them all; NEGATIVE if a text is not the same, or the code of what went wrong."""
        found = list(_read(file))
        jobs = [one for one in found if not (isinstance(one, dict) and "error" in one)]
        if passed := len(found) - len(jobs):
            output.note(f"passed over: {passed} of {len(found)} are records of errors")
        if not jobs:
            raise InputError(f"{shown(file)}: no record of an answer in it", hint="see --json")
        self.places.check()
        code = different = failed = 0
        with output.progress(len(jobs)) as bar:
            for number, one in _by_model(jobs):
                try:
                    same = self._replay(one)
                    different += not same
                except (InputError, ModelError, DeviceError) as error:
                    if len(jobs) == 1 and not self.settings.json:
                        raise
                    failed += 1
                    code = code or error.exit_code
                    self._tell(error, records.name_of(one) or f"record {number}")
                    same = False
                bar.advance(failed=not same)
        if self._reasons:
            output.note(f"what may be why: {'; '.join(sorted(self._reasons))}")
        if len(jobs) > 1 and (different or failed):
            output.warn(f"of {len(jobs)}, {different} differ and {failed} failed")
        return code or (ExitCode.NEGATIVE if different else 0)

    def _tell(self, error: VlmError, name: str) -> None:
        if self.settings.json:
            output.record({"file": name, "error": str(error)})
        output.error(error)

    def _replay(self, value: object) -> bool:
        """Whether the text is the same, which is also printed."""
        if isinstance(value, InputError):
            raise value
        recorded = records.read(value)
        # A replay makes a record, and clips are hashed for one.
        settings = replace(recorded.answering(self.settings), json=True)
        seen = [self.places.look(one, settings) for one in recorded.seen]
        conversation = recorded.conversation(seen)
        engine = self._engine_of(recorded, settings)
        with output.status("looking"):
            answer = answers.collect(engine, conversation, settings)
        same = answer.text == recorded.text
        if not same:
            self._reasons |= set(_changes(recorded, engine, seen, answer.done))
            self._reasons |= set(_typed_changes(recorded, settings))
        name = records.name_of(value)
        span = {n: recorded.fields[n] for n in ("start", "end") if n in recorded.fields}
        if self.settings.json:
            now = answers.record(engine, conversation, answer, settings)
            output.record({**span, **now, "same": same, "was": recorded.text})
        else:
            output.caption_line(f"{name}{_window(span)}", "same" if same else "different")
            if not same and (sys.stdout.isatty() if self.diff is None else self.diff):
                output.changes(recorded.text, answer.text)
        answers.finish(engine, answer.done, self.settings, name, said=bool(answer.text))
        return same

    # The model ---------------------------------------------------------------------------------

    def _engine_of(self, recorded: Recorded, settings: Settings) -> Engine:
        """The model of the record, or the one that was typed; one is in memory at a time."""
        wanted = self._wanted(recorded, settings)
        key = tuple(getattr(wanted, name) for name in (*_LOADED, *SEEING))
        if key in self._refused:
            raise self._refused[key]
        if self._engine is None or key != self._loaded:
            self._engine = None
            _release()
            try:
                self._engine = answers.load(wanted)
            except VlmError as error:
                self._refused[key] = error
                raise
            self._loaded = key
        if not self._typed("model", "revision"):
            _check_same(self._engine, recorded)
        return self._engine

    def _wanted(self, recorded: Recorded, settings: Settings) -> Settings:
        wanted = settings.unasked()
        if not self._typed("model", "revision"):
            origins = {**wanted.origins, "revision": "the record"}
            wanted = replace(wanted, model=recorded.model, revision=recorded.revision)
            wanted = replace(wanted, origins=origins)
        if not self._typed("dtype"):
            wanted = replace(wanted, dtype=recorded.dtype)
        if not self._typed("device"):
            wanted = replace(wanted, device=self._device_of(recorded))
        return wanted

    def _typed(self, *names: str) -> bool:
        return not self.settings.typed().isdisjoint(names)

    def _device_of(self, recorded: Recorded) -> str:
        from vlmcli import device as devices  # torch, not before the files are found

        try:
            return devices.choose(recorded.device, recorded.dtype).name
        except DeviceError:
            self._warn_once(f"no {shown(recorded.device)} is here, where the answer was made")
            return "auto"
        except UsageError as error:
            raise InputError(f"dtype: {error.message}", hint=error.hint) from error

    def _warn_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            output.warn(text)


def _read(file: str) -> Iterator[object | InputError]:
    try:
        data = sources.stdin().read() if file == "-" else Path(file).read_bytes()
        if Path(file).suffix.lower() in (".csv", ".parquet"):
            hint = "answers kept with -o FILE.jsonl can be replayed"
            raise InputError(f"{shown(file)}: a table, not records in JSON", hint=hint)
        return records.documents(data.decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{shown(file)}: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{shown(file)}: not JSON", hint="a record is what --json prints"
        ) from error


def _by_model(jobs: Sequence[object]) -> list[tuple[int, object]]:
    """The records, numbered from 1; those of one model together, so that it is loaded but once."""
    ranks: dict[object, int] = {}

    def rank(job: tuple[int, object]) -> int:
        value = job[1]
        fields = value if isinstance(value, dict) else {}
        settings = fields.get("settings")
        asked = settings if isinstance(settings, dict) else {}
        key = [*(fields.get(name) for name in _LOADED), *(asked.get(name) for name in SEEING)]
        return ranks.setdefault(str(key), len(ranks))

    return sorted(enumerate(jobs, 1), key=rank)


def _release() -> None:
    from vlmcli import device as devices  # torch, not before the files are found

    devices.release()


def _check_same(engine: Engine, recorded: Recorded) -> None:
    """Raise ModelError if the model is not the one of the record."""
    if engine.revision != recorded.revision:
        raise ModelError(
            f"{recorded.model}: this is revision {engine.revision or 'none'}, and the record has"
            f" {recorded.revision or 'none'}",
            hint="-m NAME asks another model",
        )
    here = engine.fingerprint() if engine.fingerprint else ""
    if recorded.fingerprint and here != recorded.fingerprint:
        raise ModelError(
            f"{recorded.model}: its files are not those that the record was made with",
            hint=f"-m {recorded.model} asks it all the same",
        )


def _changes(
    recorded: Recorded, engine: Engine, seen: Sequence[Image | Video], done: Done
) -> Iterator[str]:
    """What is not as it was, beside the text; each in words."""
    then = {"vlm": recorded.fields.get("version"), **recorded.versions}
    now: dict[str, object] = {"vlm": __version__, **records.versions(engine.packages, seen)}
    then |= {"the device": recorded.device, "the number format": recorded.dtype}
    now |= {"the device": engine.device, "the number format": engine.dtype}
    then |= {"the model": recorded.model}
    now |= {"the model": engine.model}
    for name, was in then.items():
        if was != now.get(name):
            yield f"{name} was {was} and is {now.get(name, 'not here')}"
    # The same numbers come out a little different where a prompt is read in other pieces.
    if (cached := recorded.fields.get("cached_tokens", 0)) != done.cached_tokens:
        yield f"{cached} tokens of the prompt were read before, and {done.cached_tokens} are now"
    if (together := recorded.fields.get("batch_size", 1)) != done.together:
        yield f"{together} were answered together, and it is alone now"


def _typed_changes(recorded: Recorded, settings: Settings) -> Iterator[str]:
    """What was typed of how the model is to see, and is not what the record has."""
    for name in SEEING:
        was, now = recorded.settings.get(name, TABLE[name].default), getattr(settings, name)
        if was != now:
            yield f"{config.long_flag(TABLE[name])} was {was} and is {now}"


def _window(span: dict[str, object]) -> str:
    start, end = span.get("start"), span.get("end")
    if isinstance(start, int | float) and isinstance(end, int | float):
        return f" {clock(start)}-{clock(end)}"
    return ""
