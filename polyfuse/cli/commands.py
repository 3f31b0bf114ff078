"""`polyfuse`: the list of its commands, and how one ends. A command's module is imported when the command is used.

0 success, 1 an error that the user can mend, 2 bad usage, 130 interrupted; each error is one line on stderr.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

import click

import polyfuse
from polyfuse.errors import PolyfuseError

INTERRUPTED = 130

COMMANDS: Mapping[str, str] = {
    "bench": "Race polyfuse against other tools.",
    "compare": "Predict, count, check and time tiles and strategies.",
    "compile": "Compile a whole network to a C library.",
    "explain": "Explain how a network is rewritten and fused.",
    "export-scop": "Write a scheduled workload for Polly.",
    "import-scop": "Read and schedule a SCoP exported by Polly.",
    "machine": "Show, measure or fit the machine file.",
    "plan": "Plan a network: groups, tiles, what stays on chip.",
    "run": "Run a network on arrays in .npy files.",
    "show": "Print sets, schedules, buffers, counts and C.",
    "tune": "Find the fastest tile, strategy and algorithms.",
    "verify": "Compare a compiled network with onnxruntime.",
}
"""Every command and what it does, in a line. `import-scop` is `command` in polyfuse/cli/import_scop.py."""


class Interrupted(Exception):
    """Ctrl-C was pressed."""


class Commands(click.Group):
    """The group of all commands: each is imported when it is asked for, and its errors are one line each."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"polyfuse.cli.{cmd_name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `polyfuse --help`, for which no command is imported."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        """Run a command; with `standalone_mode` the process exits with its status."""
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **extra)
        status, message = self._status(args, **extra)
        if message is not None:
            click.echo(f"polyfuse: {' '.join(message.split())}", err=True)
        sys.exit(status)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; click would print an empty line for an interrupt."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted from None

    def _status(self, args: Sequence[str] | None, **extra: Any) -> tuple[int, str | None]:
        """The exit status of a command and its error."""
        try:
            if any("\0" in word for word in (sys.argv[1:] if args is None else args)):
                raise click.UsageError("expected words without NUL characters")
            result = super().main(args, standalone_mode=False, **extra)
            sys.stdout.flush()
        except click.UsageError as error:
            where = error.ctx.command_path if error.ctx is not None else "polyfuse"
            return error.exit_code, f"{error.format_message()} (see {where} --help)"
        except click.ClickException as error:
            return error.exit_code, error.format_message()
        except (Interrupted, click.Abort, KeyboardInterrupt):
            return INTERRUPTED, "interrupted; files are whole or as they were before"
        except PolyfuseError as error:
            return 1, str(error)
        except BrokenPipeError:
            discard_stdout()
            return 1, None
        except OSError as error:
            discard_stdout()
            return 1, f"{error.filename or 'output'}: {error.strerror or error}; check the path and the space left"
        except UnicodeEncodeError as error:
            return 1, f"expected names that are UTF-8, got {error.object!r}; rename the file"
        except MemoryError:
            return 1, "out of memory; take a smaller part of the network (--from, --to) or smaller parameters (--set)"
        return result if isinstance(result, int) else 0, None


def discard_stdout() -> None:
    """Leave nothing for the interpreter to write when it exits: what reads it is gone, or its disk is full."""
    with suppress(OSError, ValueError):  # a stdout that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_version(ctx: click.Context, option: click.Parameter, asked: bool) -> None:
    """Print the version, if that was asked, and stop."""
    if asked:
        click.echo(f"polyfuse {polyfuse.__version__}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=print_version, help="Show the version."
)
def main() -> None:
    """Fuse, tile and recompute networks of convolution and pooling layers, exactly.

    A WORKLOAD is a kernel file (kernels/sr4.py, or sr4 for short), an ONNX model, or a SCoP exported by Polly.

    `polyfuse COMMAND --help` explains a command and its options.
    """
