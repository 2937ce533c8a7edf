"""`masklet`: the commands, and what happens when one fails.

Exit codes: 0 done; 1 `masklet data check` or `convert` found something broken; 2 something in the command line, an
image or a model is wrong (one line says what); 130 stopped with Ctrl-C. A fault in masklet itself is a traceback
and 1.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Annotated

import typer

from masklet.cli import bench, check_data, eval
from masklet.cli.annotate import annotate
from masklet.cli.console import one_line_warnings, print_error, set_command_args
from masklet.cli.convert import convert
from masklet.cli.demo import demo
from masklet.cli.generate import generate
from masklet.cli.info import info
from masklet.cli.models import models
from masklet.cli.predict import predict
from masklet.cli.segment import segment
from masklet.cli.synth import synth
from masklet.cli.track import track
from masklet.cli.train import export_weights, train
from masklet.cli.val import val
from masklet.errors import MaskletError

__all__ = ["app", "run"]

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
_ClickException: type[Exception] = typer.BadParameter.__mro__[2]  # ClickException, wherever this typer keeps it

app = typer.Typer(
    name="masklet",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("segment")(segment)
app.command("auto")(generate)
app.command("track")(track)
app.command("annotate")(annotate)
app.command("predict")(predict)
app.command("models")(models)
app.command("info")(info)
app.command("demo")(demo)
app.command("train")(train)
app.command("val")(val)
app.command("publish")(export_weights)
app.command("synth")(synth)
app.command("convert")(convert)
app.add_typer(check_data.app, name="data")
app.add_typer(eval.app, name="eval")
app.add_typer(bench.app, name="bench")


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Tell all of an error, not its first line.")] = False,
) -> None:
    """Segment anything in images and videos: point at an object, get it cut out.

    \b
    masklet demo                                     see it work, in a minute
    masklet segment dog.jpg --point 150,150          what is at x=150, y=150?
    masklet segment dog.jpg --box 100,100,200,200    what is in this box?
    masklet auto dog.jpg                             what is there at all?
    masklet track dog.mp4 --point 150,150            where does it go?
    masklet annotate photos --det-model everything   labels for a whole folder
    masklet val --data photos                        how good is it on my own data?
    masklet train --data photos --out run --epochs 9 make it better there
    masklet models                                   the models there are
    masklet segment --help                           more examples
    """
    if version:
        from masklet import __version__

        typer.echo(f"masklet {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(args: list[str] | None = None) -> None:
    """Run one command line (by default that of the process) and leave with its exit code.

    Example:
        >>> run(["models"])
    """
    given = list(sys.argv[1:] if args is None else args)
    verbose = "--verbose" in given
    with one_line_warnings():
        code = _run_command([word for word in given if word != "--verbose"], verbose=verbose)
    sys.exit(_flush_stdout(code))


def _run_command(args: list[str], *, verbose: bool) -> int:
    set_command_args(args)
    try:
        code: object = app(args, prog_name="masklet", standalone_mode=False, obj=args)  # track reads their order
    except MaskletError as error:
        print_error(str(error), verbose=verbose)
        return EXIT_ERROR
    except _ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # a group of commands, and none of them named
            typer.echo(error)
            return 0
        print_error(_usage_message(error, args))
        return EXIT_ERROR
    except (KeyboardInterrupt, typer.Abort):
        print_error("stopped")
        return EXIT_INTERRUPTED
    return code if isinstance(code, int) else 0


def _usage_message(error: Exception, args: list[str]) -> str:
    """What the parser of the command line refused, in one line that says where the help is."""
    known = [command.name for command in app.registered_commands] + [group.name for group in app.registered_groups]
    about = next((f"{word} " for word in args if word in known), "")
    message = str(getattr(error, "format_message", error.__str__)())
    return f"{' '.join(message.split()).rstrip('.')}; see masklet {about}--help"


def _flush_stdout(code: int) -> int:
    """Standard output whole, or quietly given up when its reader has gone (`masklet models | head -1`)."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


if __name__ == "__main__":
    run()
