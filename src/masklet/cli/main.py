"""`masklet`: the commands, and their exit codes when one fails (see `console.ExitCode`)."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from masklet.cli import bench, check_data, eval, project
from masklet.cli.annotate import annotate
from masklet.cli.app import app as open_app
from masklet.cli.batch import batch, merge
from masklet.cli.console import (
    ExitCode,
    one_line_warnings,
    print_error,
    set_command_args,
    show_log,
    use_lenient_streams,
)
from masklet.cli.convert import convert
from masklet.cli.demo import demo
from masklet.cli.export_command import export
from masklet.cli.generate import generate
from masklet.cli.info import info
from masklet.cli.loop_command import loop
from masklet.cli.models import models
from masklet.cli.predict import predict
from masklet.cli.segment import segment
from masklet.cli.serve import serve
from masklet.cli.synth import synth
from masklet.cli.track import track
from masklet.cli.track_prompts import OrderedOptionsCommand
from masklet.cli.train import export_weights, train
from masklet.cli.val import val
from masklet.cli.yolo_words import is_key_value_line
from masklet.errors import MaskletError, MissingExtraError

__all__ = ["app", "run"]

_ClickException: type[Exception] = typer.BadParameter.__mro__[2]  # ClickException, wherever this typer has it

app = typer.Typer(
    name="masklet",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("segment")(segment)
app.command("generate")(generate)
app.command("auto", hidden=True)(generate)
app.command("track", cls=OrderedOptionsCommand)(track)
app.command("annotate")(annotate)
app.command("batch")(batch)
app.command("batch-merge", hidden=True)(merge)
app.command("predict")(predict)
app.command("models")(models)
app.command("info")(info)
app.command("demo")(demo)
app.command("train")(train)
app.command("val")(val)
app.command("export-weights")(export_weights)
app.command("export")(export)
app.command("synth")(synth)
app.command("loop")(loop)
app.command("app")(open_app)
app.command("serve")(serve)
app.command("convert")(convert)
app.add_typer(check_data.app, name="data")
app.add_typer(project.app, name="project")
app.add_typer(eval.app, name="eval")
app.add_typer(bench.app, name="bench")


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print all lines of an error, and what is tried.")] = False,
) -> None:
    """Segment anything in images and videos: point at an object, get it cut out.

    \b
    masklet demo                                     see it work, in a minute
    masklet segment dog.jpg --point 150,150          the object at x=150, y=150
    masklet segment dog.jpg --box 100,100,200,200    the object in this box
    masklet generate dog.jpg                         every object
    masklet track dog.mp4 --point 150,150            the object through a video
    masklet annotate photos --det-model everything   labels for a folder
    masklet batch s3://b/photos --out s3://b/masks   millions of images, on many machines
    masklet val --data photos                        accuracy on your own data
    masklet train --data photos --out run --epochs 9 training on your own data
    masklet app photos/                              a page on which you point at objects
    masklet serve videos/                            a server for other programs
    masklet models                                   available models
    masklet segment --help                           more examples
    """
    if version:
        from masklet import __version__

        typer.echo(f"masklet {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(args: list[str] | None = None) -> None:
    """Run one command line (by default that of the process) and exit with its code.

    Example:
        >>> run(["models"])  # doctest: +SKIP
    """
    use_lenient_streams()
    words = list(sys.argv[1:] if args is None else args)
    verbose = "--verbose" in words
    words = [word for word in words if word != "--verbose"]
    if words[:1] in (["segment"], ["track"]) and is_key_value_line(words[1:]):  # as the `yolo` command has them
        words = ["predict", *(["mode=track"] if words[0] == "track" else []), *words[1:]]
    if words[:2] == ["batch", "merge"]:  # a folder of that name is ./merge
        words = ["batch-merge", *words[2:]]
    set_command_args(words)
    if verbose:
        show_log()
    code: object = ExitCode.ERROR
    with one_line_warnings():
        try:
            code = app(words, prog_name="masklet", standalone_mode=False)
        except MaskletError as error:
            print_error(str(error), verbose=verbose)
        except ModuleNotFoundError as error:
            missing = MissingExtraError.for_module(error)
            if missing is None:
                raise
            print_error(str(missing))
        except _ClickException as error:
            if type(error).__name__ == "NoArgsIsHelpError":  # a group of commands, and none of them named
                typer.echo(error)
                code = ExitCode.DONE
            else:
                known = [one.name for one in app.registered_commands] + [one.name for one in app.registered_groups]
                command = next((f"{word} " for word in words if word in known), "")
                message = " ".join(str(getattr(error, "format_message", error.__str__)()).split())
                print_error(f"{message.rstrip('.')}; see masklet {command}--help")
        except (KeyboardInterrupt, typer.Abort):
            print_error("stopped")
            code = ExitCode.INTERRUPTED
    sys.exit(int(code) if isinstance(code, int) else 0)


if __name__ == "__main__":
    run()
