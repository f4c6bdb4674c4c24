"""What `vlm video` does: clips -> frames -> one answer, or an answer for each window of a clip."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vlmcli import answers, backends, messages, output, phases, transcript, video, wording
from vlmcli.backends import Engine, FrameBudget, Reader
from vlmcli.commands import frames
from vlmcli.errors import AnswerError, InputError, UsageError, shown
from vlmcli.inputs import clips, pictures
from vlmcli.messages import Image, Message, Video
from vlmcli.settings import Settings
from vlmcli.timecodes import clock
from vlmcli.transcript import Cue, Form
from vlmcli.video import Choice, Clip

Span = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the user said of the frames; times in seconds, None where nothing was said."""

    fps: float | None = None
    max_frames: int | None = None
    start_s: float | None = None
    end_s: float | None = None
    every_s: float | None = None
    scenes: bool = False

    def choice(self, budget: FrameBudget, clip_count: int) -> Choice:
        """Which frames of each clip, the rest being the model's business."""
        room = max(1, budget.frames // clip_count)
        most = self.max_frames or room
        if self.fps is not None:
            return Choice(most, self.fps, at_changes=self.scenes)
        if self.max_frames is not None:
            return Choice(most, at_changes=self.scenes)
        return replace(video.usual(most, budget.fps), at_changes=self.scenes)


@dataclass(frozen=True, slots=True)
class Show:
    """Where answers and frames go: `file`, `folder` and `sheet` are None if not asked for."""

    form: Form = "text"
    file: str | None = None
    folder: str | None = None
    sheet: str | None = None
    dry_run: bool = False


@dataclass(slots=True)
class Watch:
    """One run of `vlm video`."""

    settings: Settings
    question: str
    wishes: Wishes
    show: Show
    _warned: set[str] = field(default_factory=set, init=False)

    def run(self, files: Sequence[str]) -> None:
        if pictures.all_there(files):
            backends.begin()
        with clips.opened(files, self.settings) as seen:
            films = [one for one in seen if not isinstance(one, Image)]
            spans = [video.stretch(c, self.wishes.start_s, self.wishes.end_s) for c in films]
            in_windows = self.wishes.every_s is not None or self.show.form in ("srt", "vtt")
            if in_windows and len(films) > 1:
                raise UsageError("times are those of one clip", hint="name one, or loop over them")
            frames.check(self.show.folder, self.show.sheet)
            if in_windows:
                self._answer_windows(seen, films[0], spans[0])
            else:
                self._answer_once(seen, spans)

    # One answer --------------------------------------------------------------------------------

    def _answer_once(self, seen: Sequence[Clip | Image], spans: Sequence[Span]) -> None:
        model = self._model()
        conversation = self._conversation(seen, spans, model)
        if self.show.sheet is not None:
            frames.show_sheet(conversation[-1].videos, self.show.sheet)
        if isinstance(model, Reader):
            answers.dry_run(model, conversation, self.settings)
        else:
            answers.show(model, conversation, self.settings)

    def _model(self) -> Engine | Reader:
        return backends.read(self.settings) if self.show.dry_run else answers.load(self.settings)

    def _conversation(
        self, seen: Sequence[Clip | Image], spans: Sequence[Span], model: Engine | Reader
    ) -> list[Message]:
        choice = self._choice(spans, model)
        ends = iter(spans)
        parts = [
            one if isinstance(one, Image) else self._take(one, next(ends), choice) for one in seen
        ]
        if self.show.folder is not None:
            videos = [part for part in parts if isinstance(part, Video)]
            frames.write_each(videos, Path(self.show.folder))
        return self._asked(parts)

    def _choice(self, spans: Sequence[Span], model: Engine | Reader) -> Choice:
        """Also says if the model has no room for the rate that was asked for."""
        budget = FrameBudget() if self.wishes.max_frames else model.budget()
        choice = self.wishes.choice(budget, len(spans))
        length_s = max(end_s - start_s for start_s, end_s in spans)
        wanted = length_s * (self.wishes.fps or 0)
        if self.wishes.max_frames is None and wanted > choice.most + 0.5:
            self._warn_once(
                f"--fps {self.wishes.fps:g} is {wanted:.0f} frames, and {model.model} is shown"
                f" {choice.most}; --max-frames shows more"
            )
        return choice

    def _take(self, clip: Clip, span: Span, choice: Choice) -> Video:
        with output.status(f"looking through {shown(clip.name)}"), phases.noted("frames"):
            taken = video.take(clip, span, choice)
        if taken.damaged_s is not None:
            self._warn_once(
                f"{shown(clip.name)} is damaged or cut short at {clock(taken.damaged_s)};"
                " the frames are of what can be decoded"
            )
        if self.settings.verbose:
            first, last = clock(taken.video.times_s[0]), clock(taken.video.times_s[-1])
            count = len(taken.video.frames)
            output.note(f"{shown(clip.name)}: {count} frames from {first} to {last}")
        return taken.video

    def _asked(self, parts: Sequence[Image | Video]) -> list[Message]:
        question = self.question or wording.VIDEO
        asked = [messages.user(question, parts)]
        return wording.instructed(asked, self.settings.system, self.settings.lang)

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            output.warn(text)

    # An answer for each window -----------------------------------------------------------------

    def _answer_windows(self, seen: Sequence[Clip | Image], clip: Clip, span: Span) -> None:
        every_s = self.wishes.every_s or math.inf
        windows = video.windows(*span, min(every_s, span[1] - span[0]))
        done = self._done_before(seen, windows)
        if done == len(windows):
            output.note(f"{self.show.file} is complete: {done} of {done} windows")
            return
        if done:
            output.note(f"{self.show.file} has {done} of {len(windows)} windows; going on")
        model = self._model()
        if not done and not self.show.dry_run:
            self._write(transcript.head(self.show.form))
        glimpses: list[Video] = []
        with output.progress(len(windows) - done) as bar:
            for number, window in enumerate(windows[done:], done + 1):
                try:
                    conversation = self._conversation(seen, [window], model)
                except InputError as error:
                    if clip.readable_to_s is None or number == 1:
                        raise
                    self._warn_once(str(error))
                    break
                if self.show.sheet is not None:
                    glimpses.append(frames.glimpse(conversation[-1].videos[0]))
                if isinstance(model, Reader):
                    answers.dry_run(model, conversation, self.settings)
                else:
                    self._answer_window(model, conversation, number, window)
                bar.advance()
        if self.show.sheet is not None:
            frames.show_sheet(glimpses, self.show.sheet)

    def _answer_window(
        self, engine: Engine, conversation: list[Message], number: int, window: Span
    ) -> None:
        span = f"{clock(window[0])}-{clock(window[1])}"
        try:
            answer = answers.collect(engine, conversation, self.settings)
        except AnswerError as error:
            raise AnswerError(f"{span}: {error.message}", hint=error.hint) from error
        times = {"start": round(window[0], 3), "end": round(window[1], 3)}
        record = times | answers.record(engine, conversation, answer, self.settings)
        if self.show.form != "jsonl":
            output.thoughts(answer.reasoning)
        if self.show.file is None and self.show.form == "jsonl":
            output.record(record)
        elif self.show.file is None and self.show.form == "text":
            output.caption_line(span, answer.text)
        else:
            cue = Cue(*window, output.clean(answer.text), record)
            self._write(transcript.entry(self.show.form, number, cue))
        answers.finish(engine, answer.done, self.settings, span, said=bool(answer.text))

    def _write(self, text: str) -> None:
        if self.show.file is not None:
            transcript.append(Path(self.show.file), text)
        elif text:
            output.plain(text)

    def _done_before(self, seen: Sequence[Clip | Image], windows: Sequence[Span]) -> int:
        if self.show.file is None or self.show.dry_run:
            return 0
        names = [one.name for one in seen]
        same = {
            "file": names[0] if len(names) == 1 else names,
            "prompt": "\n".join(self._asked([])[-1].texts),
            "settings": self.settings.answering or None,
        }
        return transcript.resume(Path(self.show.file), self.show.form, windows, same)
