"""The loop of `vlm caption`: picture after picture, past the bad ones, with one model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from vlmcli import answers, backends, messages, output, sources, wording
from vlmcli.backends import Engine, Reader
from vlmcli.errors import ExitCode, InputError
from vlmcli.inputs import pictures
from vlmcli.messages import Image, Text
from vlmcli.settings import Settings
from vlmcli.sources import Source


@dataclass(slots=True)
class Job:
    """What to ask about each picture, and how to show it; the first good one loads the model."""

    settings: Settings
    words: Text
    recursive: bool = False
    with_filename: bool | None = None
    dry_run: bool = False
    failures: int = field(default=0, init=False)
    _engine: Engine | None = field(default=None, init=False)
    _reader: Reader | None = field(default=None, init=False)

    def run(self, files: Sequence[str]) -> ExitCode:
        """Caption them all; INPUT if any failed. One file that is bad raises its InputError."""
        found = list(self._find(files))
        with output.progress(len(found)) as bar:
            for name, source in found:
                before = self.failures
                self._caption_source(
                    name, source, alone=[n for n, _ in found] == [*files] == [name]
                )
                bar.advance(failed=self.failures > before)
        if self.failures and len(found) > 1:
            output.warn(f"{self.failures} of {len(found)} failed")
        return ExitCode.INPUT if self.failures else ExitCode.OK

    def _find(self, files: Sequence[str]) -> Iterator[tuple[str, Source | InputError]]:
        for argument in files:
            try:
                for source in sources.find(argument, recursive=self.recursive):
                    yield getattr(source, "name", argument), source
            except InputError as error:
                yield argument, error

    def _caption_source(self, name: str, source: Source | InputError, *, alone: bool) -> None:
        try:
            if isinstance(source, InputError):
                raise source
            for image in pictures.read(source, self.settings):
                self._caption(image, alone=alone and image.name == name)
        except InputError as error:
            if alone and not self.settings.json:
                raise
            self.failures += 1
            if self.settings.json:
                output.record({"file": name, "error": str(error)})
            output.error(error)

    def _caption(self, image: Image, *, alone: bool) -> None:
        conversation = wording.instructed(
            [messages.user(self.words, [image])], self.settings.system, self.settings.lang
        )
        if self.dry_run:
            self._reader = self._reader or backends.read(self.settings)
            answers.dry_run(self._reader, conversation, self.settings)
            return
        self._engine = self._engine or answers.load(self.settings)
        named = self.with_filename if self.with_filename is not None else not alone
        if self.settings.json or not named:
            answers.show(self._engine, conversation, self.settings)
            return
        answer = answers.collect(self._engine, conversation, self.settings)
        output.thoughts(answer.reasoning)
        output.caption_line(image.name, answer.text)
        said = bool(answer.text)
        answers.finish(self._engine, answer.done, self.settings, image.name, said=said)
