"""The commands, a file each. What users type enters; text, files and an exit status leave."""

from polyfuse.cli.commands import INTERRUPTED, main

__all__ = ["INTERRUPTED", "main"]
