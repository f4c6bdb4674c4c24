"""How a progress bar and a spinner look; each can be taken off the terminal and put back."""

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.spinner import Spinner
from rich.table import Column
from rich.text import Text

ROOMY = 70
"""Columns of a terminal in which a download has room for its bytes and its rate."""


class LiveFooter:
    """A renderable that redraws itself below everything else."""

    def __init__(self, renderable: RenderableType, screen: Console) -> None:
        self._renderable = renderable
        self._screen = screen

    def show(self) -> None:
        self._live = Live(
            self._renderable,
            console=self._screen,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            refresh_per_second=8,
        )
        self._live.start(refresh=True)

    def hide(self) -> None:
        self._live.stop()


class Rate(ProgressColumn):
    """Inputs per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="dim")


class Bar(LiveFooter):
    """Count, total, bar, rate, time left, and the number of failures if there are any."""

    visible = True

    def __init__(self, total: int | None, screen: Console) -> None:
        self._progress = Progress(
            MofNCompleteColumn(),
            BarColumn(),
            Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[failures]}", style="red", markup=False),
            console=screen,
        )
        self._task = self._progress.add_task("", total=total, failures="")
        self._failed = 0
        super().__init__(self._progress, screen)

    def expect(self, total: int) -> None:
        self._progress.update(self._task, total=total)

    def advance(self, failed: bool = False) -> None:
        self._failed += failed
        failures = f"{self._failed} failed" if self._failed else ""
        self._progress.update(self._task, advance=1, failures=failures)


class DownloadBars(LiveFooter):
    """Bytes, rate and time left: of each file under way, and below them of everything."""

    def __init__(self, label: str, total: int, done: int, screen: Console) -> None:
        line = Column(no_wrap=True, overflow="ellipsis")
        name = TextColumn("{task.description}", markup=False, table_column=line)
        left = TimeRemainingColumn(compact=True)
        state = TextColumn("{task.fields[state]}", style="dim", markup=False)
        columns = [name, BarColumn(bar_width=20), DownloadColumn(), TransferSpeedColumn()]
        if screen.width < ROOMY:
            columns = [name, TaskProgressColumn()]
        self._progress = Progress(*columns, left, state, console=screen)
        self._all = self._progress.add_task(label, total=total, completed=done, state="")
        self._files: dict[str, TaskID] = {}
        super().__init__(self._progress, screen)

    def start(self, file: str, total: int, done: int) -> None:
        self.finish(file)  # a waiting one
        self._files[file] = self._progress.add_task(
            f"  {file}", total=total, completed=done, state=""
        )

    def advance(self, file: str, count: int) -> None:
        self._progress.advance(self._files[file], count)
        self._progress.advance(self._all, count)

    def finish(self, file: str) -> None:
        if file in self._files:
            self._progress.remove_task(self._files.pop(file))

    def wait(self, file: str) -> None:
        self._files[file] = self._progress.add_task(
            f"  {file}", total=None, state="another process downloads it"
        )


def spinner(text: str, screen: Console) -> LiveFooter:
    return LiveFooter(Spinner("dots", Text(text)), screen)
