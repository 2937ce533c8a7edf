"""`masklet eval davis17`, `davis16`, `ytvos`, `mose`, `lvos`, `sav`: predictions in their formats, and their scores."""

from __future__ import annotations

import inspect
import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from masklet.cli.console import print_notice, progress_bar
from masklet.cli.eval.runner import memory_option, model_with_memory
from masklet.cli.eval.scoring import SeenFile, UnseenFile, format_score
from masklet.cli.shared_options import EvalModel, ImageSize, Memory, ObjectReportFile, Precision, track_options

if TYPE_CHECKING:
    from masklet import SAM
    from masklet.evaluate.tracking import ModelWithOptions

__all__ = ["davis16", "davis17", "lvos", "mose", "sav", "ytvos"]


def _eval_benchmark(
    benchmark: str,
    root: Annotated[Path, typer.Option(help="The data set, as its owners pack it.")],
    model: EvalModel = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Keep the predictions there, and resume those of an earlier run; default: scores only."),
    ] = None,
    prompt: Annotated[
        str, typer.Option(help="Prompt of each object where it first appears: mask, box or click.")
    ] = "mask",
    memory: Memory = "sam2",
    split: Annotated[str | None, typer.Option(help="A list of ImageSets, or a folder of the data set.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only N videos, the first by name.", min=1)] = None,
    seen: SeenFile = None,
    unseen: UnseenFile = None,
    workers: Annotated[
        int, typer.Option(help="Parallel processes, each with its own model; the same files.", min=1)
    ] = 1,
    image_size: ImageSize = None,
    precision: Precision = "fp32",
    report_file: ObjectReportFile = None,
) -> None:
    from masklet import SAM
    from masklet.atomic_files import write_text
    from masklet.evaluate.benchmark_predictions import (
        WITHOUT_EVAL_SERVER,
        benchmark_videos,
        predict,
        zip_predictions,
    )
    from masklet.evaluate.benchmark_scoring import BenchmarkOptions, score_predictions
    from masklet.evaluate.parallel import predict_parallel
    from masklet.evaluate.prompts_from_masks import validate_prompt_type

    validate_prompt_type(prompt)
    videos = benchmark_videos(benchmark, root, split=split, limit=limit)
    open_sam = partial(SAM, model, image_size=image_size, precision=precision)
    sam = open_sam()  # also with workers: a model that cannot be opened fails before anything is written
    name, tracker = model or sam.info().name, model_with_memory(sam, track_options(memory))
    # stored with the predictions, unless default: a folder of an earlier version, without them, still resumes
    options: dict[str, str | int] = {} if image_size is None else {"image_size": image_size}
    options |= {} if precision == "fp32" else {"precision": precision}
    options |= memory_option(memory)
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="masklet-predictions-"))
        folder = out or Path(scratch) / benchmark
        with progress_bar("videos", len(videos), enabled=True) as step:
            if workers == 1:
                predict(tracker, videos, folder, prompt, model_name=name, options=options, on_progress=step)
            else:
                predict_parallel(
                    partial(_open_tracker, open_sam, memory),
                    videos,
                    folder,
                    prompt,
                    workers=workers,
                    model_name=name,
                    options=options,
                    on_progress=step,
                )
        if out is not None and benchmark not in WITHOUT_EVAL_SERVER:
            typer.echo(f"{zip_predictions(videos, out)}: {len(videos)} videos, as the server takes them")
        if not all(video.has_truth for video in videos):
            print_notice(f"{root} has no truth of these videos, so there is no score; its server has it")
            return
        names = tuple(video.name for video in videos)
        scoring = BenchmarkOptions(seen_list=seen, unseen_list=unseen, sequences=names, workers=workers)
        score = score_predictions(benchmark, folder, videos[0].truth_dir, scoring)
    for line in format_score(score):
        typer.echo(line)
    if report_file is not None:
        head = {"benchmark": benchmark, "model": name, "prompt": prompt, **options}
        write_text(report_file, json.dumps({**head, **asdict(score)}, indent=2, allow_nan=False))


def _open_tracker(open_sam: Callable[[], SAM], memory: str) -> ModelWithOptions:
    return model_with_memory(open_sam(), track_options(memory))


def _benchmark_command(benchmark: str, doc: str, omitted: tuple[str, ...] = ("seen", "unseen")) -> Callable[..., None]:
    """Return the command of a benchmark: `_eval_benchmark` without the options that mean nothing there."""

    def command(**options: Any) -> None:
        _eval_benchmark(benchmark, **options)

    signature = inspect.signature(_eval_benchmark, eval_str=True)
    parameters = [one for name, one in signature.parameters.items() if name not in ("benchmark", *omitted)]
    command.__name__, command.__doc__ = benchmark, doc
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return command


davis17 = _benchmark_command(
    "davis17",
    """Measure J and F with mean, recall and decay, as the authors of DAVIS 2017 do; or make a zip for the server.

Videos are tracked from their first annotation (of val, unless --split names another list). With --out the label maps
of every frame are kept, and written to OUT.zip. Without the truth (test-dev) there is no score.

\b
Examples:
  masklet eval davis17 --root DAVIS --report davis17.json
  masklet eval davis17 --root DAVIS --split test-dev --out test-dev
""",
)
davis16 = _benchmark_command(
    "davis16",
    """Measure J and F with mean, recall and decay on DAVIS 2016: all annotated objects of a video are one.

Videos are tracked from their first annotation (of val, unless --split names another list), of the folder of DAVIS 2016
or of that of DAVIS 2017, whose objects are merged.

\b
Example:
  masklet eval davis16 --root DAVIS --report davis16.json
""",
)
ytvos = _benchmark_command(
    "ytvos",
    """Predict for the server of YouTube-VOS, OUT.zip; with the truth, print the score by its definition.

Each object is tracked from the first annotation that shows it (of valid, unless --split names another folder).

\b
Example:
  masklet eval ytvos --root YouTubeVOS --out ytvos
""",
    omitted=("unseen",),
)
mose = _benchmark_command(
    "mose",
    """Predict for the server of MOSE, OUT.zip; with the truth, print J and F as DAVIS defines them.

Videos are tracked from their first annotation (of valid, unless --split names another folder).

\b
Example:
  masklet eval mose --root MOSE --out mose
""",
)
lvos = _benchmark_command(
    "lvos",
    """Measure J, F and their deviation over time on LVOS, as its authors do, also for seen and unseen videos.

Each object is tracked from the first annotation that shows it (of valid, unless --split names another folder).

\b
Example:
  masklet eval lvos --root LVOS --report lvos.json
""",
    omitted=("seen",),
)
sav = _benchmark_command(
    "sav",
    """Measure J and F on the val or test set of SA-V, as its evaluator does.

Each object is tracked from the first annotation that shows it; with --out a folder for each object is kept.

\b
Example:
  masklet eval sav --root sav_val --report sav.json
""",
    omitted=("split", "seen", "unseen"),
)
