"""Tables for the terminal. Titles and cells enter; a table that rich prints leaves."""

from rich import box
from rich.table import Table
from rich.text import Text


def table_of(*titles: str, space: int = 1) -> Table:
    """A table with a line below its titles; a column whose title begins with ">" is aligned to the right."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, space, 0, 0), pad_edge=False, show_edge=False)
    for title in titles:
        right = title.startswith(">")
        table.add_column(title.removeprefix(">"), justify="right" if right else "left", overflow="fold")
    return table


def add_row(table: Table, *cells: str | Text, style: str = "") -> None:
    """Add a row whose cells are plain text: brackets are no markup."""
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells), style=style)
