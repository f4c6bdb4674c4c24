"""The loop of `vlm caption`: picture after picture, past the bad ones, with one model."""

from dataclasses import dataclass, field
from itertools import chain, islice

from vlmcli import answers, backends, messages, output, wording
from vlmcli.backends import Engine, Reader
from vlmcli.errors import ExitCode, InputError
from vlmcli.inputs import pictures
from vlmcli.inputs.arguments import Named
from vlmcli.inputs.listing import counted, found
from vlmcli.messages import Image, Message, Text
from vlmcli.settings import Settings
from vlmcli.sources import Source


def asked(words: Text, settings: Settings, *seen: Image) -> list[Message]:
    """The conversation that asks about a picture."""
    return wording.instructed([messages.user(words, seen)], settings.system, settings.lang)


@dataclass(slots=True)
class Job:
    """What to ask about each picture, and how to show it; the first good one loads the model."""

    settings: Settings
    words: Text
    with_filename: bool | None = None
    dry_run: bool = False
    failures: int = field(default=0, init=False)
    _engine: Engine | None = field(default=None, init=False)
    _reader: Reader | None = field(default=None, init=False)

    def run(self, named: Named) -> ExitCode:
        """Caption them all; INPUT if any failed. One file that is bad raises its InputError."""
        inputs = found(named)
        first = list(islice(inputs, 2))
        alone = [name for name, _ in first] == [*named.files]
        count = 0
        with output.progress(len(first) if len(first) < 2 else None) as bar, counted(named, bar):
            for name, source in chain(first, inputs):
                before = self.failures
                self._caption_source(name, source, alone=alone and len(first) == 1)
                bar.advance(failed=self.failures > before)
                count += 1
        if self.failures and count > 1:
            output.warn(f"{self.failures} of {count} failed")
        return ExitCode.INPUT if self.failures else ExitCode.OK

    def _caption_source(self, name: str, source: Source | InputError, *, alone: bool) -> None:
        try:
            if isinstance(source, InputError):
                raise source
            backends.begin()
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
        conversation = asked(self.words, self.settings, image)
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
