"""How a progress bar and a spinner look; each can be taken off the terminal and put back."""

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.spinner import Spinner
from rich.text import Text


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

    def advance(self, failed: bool = False) -> None:
        self._failed += failed
        failures = f"{self._failed} failed" if self._failed else ""
        self._progress.update(self._task, advance=1, failures=failures)


def spinner(text: str, screen: Console) -> LiveFooter:
    return LiveFooter(Spinner("dots", Text(text)), screen)
