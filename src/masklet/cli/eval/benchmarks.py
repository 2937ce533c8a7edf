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

from masklet.cli.console import print_notice, progress_bar
from masklet.cli.eval.scoring import SeenFile, UnseenFile, format_score
from masklet.cli.shared_options import EvalModel, ImageSize, ObjectReportFile, Precision

if TYPE_CHECKING:
    from masklet import SAM
    from masklet.evaluate.benchmark_predictions import BenchmarkVideo

__all__ = ["davis16", "davis17", "lvos", "mose", "sav", "ytvos"]

_DatasetRoot = Annotated[Path, typer.Option(help="The data set, as its owners pack it.")]
_Out = Annotated[
    Path | None, typer.Option(help="Keep the predictions there, and go on with those that are; default: figures only.")
]
_Prompt = Annotated[str, typer.Option(help="Said of each object where it comes: mask, box or click.")]
_Split = Annotated[str | None, typer.Option("--set", help="A list of ImageSets, or a folder of the data set.")]
_Limit = Annotated[int | None, typer.Option(help="Only so many videos, the first by name.", min=1)]
_Workers = Annotated[
    int, typer.Option(help="Videos at once, each in a process with a model of its own; the same files.", min=1)
]


def _eval_benchmark(
    benchmark: str,
    root: _DatasetRoot,
    model: EvalModel = None,
    out: _Out = None,
    prompt: _Prompt = "mask",
    split: _Split = None,
    limit: _Limit = None,
    seen: SeenFile = None,
    unseen: UnseenFile = None,
    workers: _Workers = 1,
    image_size: ImageSize = None,
    precision: Precision = "fp32",
    report_file: ObjectReportFile = None,
) -> None:
    wanted = _BenchmarkOptions(benchmark, root, model, prompt, image_size, precision, workers, seen, unseen)
    _predict_and_score(wanted, wanted.videos(split, limit), out, report_file)


def _benchmark_command(benchmark: str, doc: str, omitted: tuple[str, ...] = ("seen", "unseen")) -> Callable[..., None]:
    """The command of a benchmark: `_measure`, without those options that mean nothing there."""

    def command(**options: Any) -> None:
        _eval_benchmark(benchmark, **options)

    whole = inspect.signature(_eval_benchmark, eval_str=True)
    kept = [own for name, own in whole.parameters.items() if name not in ("kind", *omitted)]
    command.__name__, command.__doc__ = benchmark, doc
    command.__signature__ = whole.replace(parameters=kept)  # type: ignore[attr-defined]
    return command


davis17 = _benchmark_command(
    "davis17",
    """J and F with mean, recall and decay, as the authors of DAVIS 2017 count them; or a zip for the server.

Videos are followed from their first annotation (of val, unless --set names another list). With --out label maps of
every frame are kept, and OUT.zip beside them. Where the truth is not there (test-dev) there is no score.

\b
Examples:
  masklet eval davis17 --root DAVIS --json davis17.json
  masklet eval davis17 --root DAVIS --set test-dev --out test-dev
""",
)
davis16 = _benchmark_command(
    "davis16",
    """J and F with mean, recall and decay on DAVIS 2016: all that is annotated in a video is one object.

Videos are followed from their first annotation (of val, unless --set names another list), of the folder of DAVIS 2016
or of that of DAVIS 2017, whose objects are merged.

\b
Example:
  masklet eval davis16 --root DAVIS --json davis16.json
""",
)
ytvos = _benchmark_command(
    "ytvos",
    """Predictions for the server of YouTube-VOS, OUT.zip; where the truth is there, the score by its definition.

Each object is followed from the first annotation that shows it (of valid, unless --set names another folder).

\b
Example:
  masklet eval ytvos --root YouTubeVOS --out ytvos
""",
    omitted=("unseen",),
)
mose = _benchmark_command(
    "mose",
    """Predictions for the server of MOSE, OUT.zip; where the truth is there, J and F as DAVIS counts them.

Videos are followed from their first annotation (of valid, unless --set names another folder).

\b
Example:
  masklet eval mose --root MOSE --out mose
""",
)
lvos = _benchmark_command(
    "lvos",
    """J, F and their deviation over time on LVOS, as its authors count them, with the figures of seen and unseen videos.

Each object is followed from the first annotation that shows it (of valid, unless --set names another folder).

\b
Example:
  masklet eval lvos --root LVOS --json lvos.json
""",  # noqa: E501
    omitted=("seen",),
)
sav = _benchmark_command(
    "sav",
    """J and F on the val or test set of SA-V, as its evaluator counts them.

Each object is followed from the first annotation that shows it; with --out a folder for each object is kept.

\b
Example:
  masklet eval sav --root sav_val --json sav.json
""",
    omitted=("subset", "seen", "unseen"),
)


@dataclass(frozen=True)
class _BenchmarkOptions:
    """What is measured, and with what."""

    benchmark: str
    root: Path
    model: str | None
    prompt: str
    image_size: int | None
    precision: str
    workers: int
    seen: Path | None = None
    unseen: Path | None = None

    def videos(self, split: str | None, limit: int | None) -> list[BenchmarkVideo]:
        from masklet.evaluate.benchmark_predictions import benchmark_videos
        from masklet.evaluate.prompts_from_masks import validate_prompt_type

        validate_prompt_type(self.prompt)
        return benchmark_videos(self.benchmark, self.root, split=split, limit=limit)

    def model_factory(self) -> partial[SAM]:
        """Opens the model, here or in a worker."""
        from masklet import SAM

        return partial(SAM, self.model, image_size=self.image_size, precision=self.precision)

    def non_default_options(self) -> dict[str, str | int]:
        """Those that are not as they are by default: a folder that was made without them is gone on with."""
        size: dict[str, str | int] = {} if self.image_size is None else {"image_size": self.image_size}
        return size if self.precision == "fp32" else {**size, "precision": self.precision}

    def predict(
        self, tracker: SAM, name: str, videos: list[BenchmarkVideo], folder: Path, step: Callable[[], None]
    ) -> None:
        """Here with `tracker`, or in workers that open their own."""
        from masklet.evaluate.benchmark_predictions import predict
        from masklet.evaluate.parallel import predict_parallel

        options = self.non_default_options()
        if self.workers == 1:
            predict(tracker, videos, folder, self.prompt, model_name=name, options=options, on_progress=step)
            return
        predict_parallel(
            self.model_factory(),
            videos,
            folder,
            self.prompt,
            workers=self.workers,
            model_name=name,
            options=options,
            on_progress=step,
        )


def _predict_and_score(
    options: _BenchmarkOptions, videos: list[BenchmarkVideo], out: Path | None, report_file: Path | None
) -> None:
    from masklet.evaluate.benchmark_predictions import WITHOUT_EVAL_SERVER, zip_predictions

    tracker = options.model_factory()()  # in any case: a model that cannot be had is told before anything is written
    name = options.model or tracker.info().name
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="masklet-predictions-"))
        folder = out or Path(scratch) / options.benchmark
        with progress_bar("films", len(videos), enabled=True) as step:
            options.predict(tracker, name, videos, folder, step)
        if out is not None and options.benchmark not in WITHOUT_EVAL_SERVER:
            typer.echo(f"{zip_predictions(videos, out)}: {len(videos)} videos, as the server takes them")
        if all(video.has_truth for video in videos):
            _score(options, name, folder, videos, report_file)
        else:
            print_notice(f"{options.root} has no truth of these videos, so there is no score; its server has it")


def _score(
    eval_options: _BenchmarkOptions, name: str, folder: Path, videos: list[BenchmarkVideo], report_file: Path | None
) -> None:
    from masklet.atomic_files import write_text
    from masklet.evaluate.benchmark_scoring import BenchmarkOptions, score_predictions

    names = tuple(video.name for video in videos)
    options = BenchmarkOptions(
        seen_list=eval_options.seen, unseen_list=eval_options.unseen, sequences=names, workers=eval_options.workers
    )
    found = score_predictions(eval_options.benchmark, folder, videos[0].truth_dir, options)
    for line in format_score(found):
        typer.echo(line)
    if report_file is not None:
        made = {
            "kind": eval_options.benchmark,
            "model": name,
            "prompt": eval_options.prompt,
            **eval_options.non_default_options(),
        }
        write_text(report_file, json.dumps({**made, **asdict(found)}, indent=2, allow_nan=False))
