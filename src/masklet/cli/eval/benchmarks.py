"""`masklet eval davis17`, `davis16`, `ytvos`, `mose`, `lvos`, `sav`: predictions in their layouts, and their score."""

from __future__ import annotations

import inspect
import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from masklet.cli.console import counting, note
from masklet.cli.eval.scoring import SeenFile, UnseenFile, score_lines
from masklet.cli.shared_options import EvalModel, ImageSize, ObjectFile, Precision

if TYPE_CHECKING:
    from masklet import SAM
    from masklet.evaluate.benchmark_predictions import Film

__all__ = ["davis16", "davis17", "lvos", "mose", "sav", "ytvos"]

_Root = Annotated[Path, typer.Option(help="The data set, as its owners pack it.")]
_Out = Annotated[
    Path | None, typer.Option(help="Keep the predictions there, and go on with those that are; default: figures only.")
]
_Prompt = Annotated[str, typer.Option(help="Said of each object where it comes: mask, box or click.")]
_Split = Annotated[str | None, typer.Option("--set", help="A list of ImageSets, or a folder of the data set.")]
_Limit = Annotated[int | None, typer.Option(help="Only so many films, the first by name.", min=1)]
_Workers = Annotated[
    int, typer.Option(help="Films at once, each in a process with a model of its own; the same files.", min=1)
]


def _measure(
    kind: str,
    root: _Root,
    model: EvalModel = None,
    out: _Out = None,
    prompt: _Prompt = "mask",
    subset: _Split = None,
    limit: _Limit = None,
    seen: SeenFile = None,
    unseen: UnseenFile = None,
    workers: _Workers = 1,
    image_size: ImageSize = None,
    precision: Precision = "fp32",
    report_file: ObjectFile = None,
) -> None:
    wanted = _Wanted(kind, root, model, prompt, image_size, precision, workers, seen, unseen)
    _run(wanted, wanted.films(subset, limit), out, report_file)


def _command(kind: str, about: str, without: tuple[str, ...] = ("seen", "unseen")) -> Callable[..., None]:
    """The command of a benchmark: `_measure`, without those options that mean nothing there."""

    def command(**options: Any) -> None:
        _measure(kind, **options)

    whole = inspect.signature(_measure, eval_str=True)
    kept = [own for name, own in whole.parameters.items() if name not in ("kind", *without)]
    command.__name__, command.__doc__ = kind, about
    command.__signature__ = whole.replace(parameters=kept)  # type: ignore[attr-defined]
    return command


davis17 = _command(
    "davis17",
    """J and F with mean, recall and decay, as the authors of DAVIS 2017 count them; or a zip for the server.

Films are followed from their first annotation (of val, unless --set names another list). With --out label maps of
every frame are kept, and OUT.zip beside them. Where the truth is not there (test-dev) there is no score.

\b
Examples:
  masklet eval davis17 --root DAVIS --json davis17.json
  masklet eval davis17 --root DAVIS --set test-dev --out test-dev
""",
)
davis16 = _command(
    "davis16",
    """J and F with mean, recall and decay on DAVIS 2016: all that is annotated in a film is one object.

Films are followed from their first annotation (of val, unless --set names another list), of the folder of DAVIS 2016
or of that of DAVIS 2017, whose objects are merged.

\b
Example:
  masklet eval davis16 --root DAVIS --json davis16.json
""",
)
ytvos = _command(
    "ytvos",
    """Predictions for the server of YouTube-VOS, OUT.zip; where the truth is there, the score by its definition.

Each object is followed from the first annotation that shows it (of valid, unless --set names another folder).

\b
Example:
  masklet eval ytvos --root YouTubeVOS --out ytvos
""",
    without=("unseen",),
)
mose = _command(
    "mose",
    """Predictions for the server of MOSE, OUT.zip; where the truth is there, J and F as DAVIS counts them.

Films are followed from their first annotation (of valid, unless --set names another folder).

\b
Example:
  masklet eval mose --root MOSE --out mose
""",
)
lvos = _command(
    "lvos",
    """J, F and their deviation over time on LVOS, as its authors count them, with the figures of seen and unseen films.

Each object is followed from the first annotation that shows it (of valid, unless --set names another folder).

\b
Example:
  masklet eval lvos --root LVOS --json lvos.json
""",
    without=("seen",),
)
sav = _command(
    "sav",
    """J and F on the val or test set of SA-V, as its evaluator counts them.

Each object is followed from the first annotation that shows it; with --out a folder for each object is kept.

\b
Example:
  masklet eval sav --root sav_val --json sav.json
""",
    without=("subset", "seen", "unseen"),
)


@dataclass(frozen=True)
class _Wanted:
    """What is measured, and with what."""

    kind: str
    root: Path
    model: str | None
    prompt: str
    image_size: int | None
    precision: str
    workers: int
    seen: Path | None = None
    unseen: Path | None = None

    def films(self, subset: str | None, limit: int | None) -> list[Film]:
        from masklet.evaluate.benchmark_predictions import films_of
        from masklet.evaluate.prompts_from_masks import check_prompt

        check_prompt(self.prompt)
        return films_of(self.kind, self.root, split=subset, limit=limit)

    def opener(self) -> partial[SAM]:
        """Opens the model, here or in a worker."""
        from masklet import SAM

        return partial(SAM, self.model, image_size=self.image_size, precision=self.precision)

    def options(self) -> dict[str, str | int]:
        """Those that are not as they are by default: a folder that was made without them is gone on with."""
        size: dict[str, str | int] = {} if self.image_size is None else {"image_size": self.image_size}
        return size if self.precision == "fp32" else {**size, "precision": self.precision}

    def predict(self, tracker: SAM, name: str, films: list[Film], folder: Path, step: Callable[[], None]) -> None:
        """Here with `tracker`, or in workers that open their own."""
        from masklet.evaluate.benchmark_predictions import predict
        from masklet.evaluate.parallel import predict_apart

        options = self.options()
        if self.workers == 1:
            predict(tracker, films, folder, self.prompt, name=name, options=options, step=step)
            return
        predict_apart(
            self.opener(), films, folder, self.prompt, workers=self.workers, name=name, options=options, step=step
        )


def _run(wanted: _Wanted, films: list[Film], out: Path | None, report_file: Path | None) -> None:
    from masklet.evaluate.benchmark_predictions import NO_SERVER, zipped

    tracker = wanted.opener()()  # in any case: a model that cannot be had is told before anything is written
    name = wanted.model or tracker.info().name
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="masklet-predictions-"))
        folder = out or Path(scratch) / wanted.kind
        with counting("films", len(films), wanted=True) as step:
            wanted.predict(tracker, name, films, folder, step)
        if out is not None and wanted.kind not in NO_SERVER:
            typer.echo(f"{zipped(films, out)}: {len(films)} films, as the server takes them")
        if all(film.has_truth for film in films):
            _score(wanted, name, folder, films, report_file)
        else:
            note(f"{wanted.root} has no truth of these films, so there is no score; its server has it")


def _score(wanted: _Wanted, name: str, folder: Path, films: list[Film], report_file: Path | None) -> None:
    from masklet.atomic_files import write_text
    from masklet.evaluate.benchmark_scoring import ScoreOptions, score

    names = tuple(film.name for film in films)
    options = ScoreOptions(seen=wanted.seen, unseen=wanted.unseen, names=names, workers=wanted.workers)
    found = score(wanted.kind, folder, films[0].truth, options)
    for line in score_lines(found):
        typer.echo(line)
    if report_file is not None:
        made = {"kind": wanted.kind, "model": name, "prompt": wanted.prompt, **wanted.options()}
        write_text(report_file, json.dumps({**made, **asdict(found)}, indent=2, allow_nan=False))
