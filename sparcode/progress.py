"""How far long work is: bars on the stderr of a terminal; a file, a pipe or a dumb terminal gets whole lines only."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


class Bars:
    """Progress bars by rich, one line a task, with a note and the time left. Imports rich when it is made.

    Shown on a terminal that can move its cursor; elsewhere nothing is written but what ``line`` is given, and with
    ``wanted`` False not even that. Use it as a context, or call ``close``: the terminal is left as it was, whatever
    happens.
    """

    def __init__(self, wanted: bool = True, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

        self._console = console or Console(stderr=True)
        self.shown = wanted and self._console.is_interactive
        self._lines = wanted and not self.shown
        # Text as it is: square brackets are no markup.
        texts = [TextColumn(field, markup=False) for field in ("{task.description}", "{task.fields[note]}")]
        columns = (texts[0], BarColumn(), texts[1], TimeRemainingColumn())
        self.rich = Progress(*columns, console=self._console, disable=not self.shown)
        self._tasks: dict[str, TaskID] = {}
        if self.shown:
            self.rich.start()

    def __enter__(self) -> Bars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the bars from the terminal's care; they stay where they are."""
        if self.shown:
            self.rich.stop()

    def update(
        self, task: str, *, text: str | None = None, done: float | None = None, total: float | None = None,
        note: str | None = None,
    ) -> None:  # fmt: skip
        """Change what is said of a task, begun when it is first named; what is not given stays.

        ``text``: before the bar, at first ``task``. ``total``: as long as it is not known, the bar only moves.
        """
        if task not in self._tasks:
            self._tasks[task] = self.rich.add_task(task, total=None, note="")
        fields: dict[str, Any] = {} if note is None else {"note": note}
        self.rich.update(self._tasks[task], description=text, completed=done, total=total, **fields)

    def finish(self, task: str, text: str) -> None:
        """Fill the bar of a task, however far it came."""
        self.update(task, text=text)
        total = self.rich.tasks[self._tasks[task]].total
        self.update(task, done=1 if total is None else total, total=1 if total is None else total)

    def line(self, text: str) -> None:
        """Write a line where no bar is shown."""
        if self._lines:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)
