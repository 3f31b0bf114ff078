"""The commands: the options of each in a file, what it does in the file of that name in `actions`."""

from polyfuse.cli.commands import INTERRUPTED, main

__all__ = ["INTERRUPTED", "main"]
