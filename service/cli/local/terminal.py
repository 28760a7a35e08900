"""Output of local commands: tables, progress bars and errors."""

import argparse
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

out = Console()
err = Console(stderr=True)


def print_rows(
    rows: list[dict[str, str]], options: argparse.Namespace, *, title: str, empty: str = "nothing"
) -> None:
    """A table for people, JSON for programs."""
    if options.json:
        out.print_json(data=rows)
        return
    if not rows:
        out.print(empty)
        return
    table = Table(title=title, title_justify="left", box=None)
    for column in rows[0]:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row.values()))
    out.print(table)


def progress_bar(options: argparse.Namespace) -> Progress:
    """A progress bar, shown on a terminal only."""
    visible = err.is_terminal and not options.json
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,}"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=err, disable=not visible, transient=True)


def reporter(progress: Progress) -> Callable[[str, int], None]:
    """A callback that updates a collection's progress bar with the number of rows read."""
    tasks: dict[str, Any] = {}

    def report(collection: str, done: int) -> None:
        if collection not in tasks:
            tasks[collection] = progress.add_task(f"reading {collection}", total=None)
        progress.update(tasks[collection], completed=done)

    return report
