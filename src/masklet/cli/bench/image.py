"""`masklet bench image`: encoding, prompts and automatic mask generation; `masklet bench startup`: the first mask."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.bench.bench_tables import (
    Beside,
    CpuQuota,
    ImageFile,
    make_record,
    show_record,
    split_commas,
    validate_choices,
)
from masklet.cli.console import progress_bar
from masklet.cli.shared_options import Device, EvalModel, ImageSize, ReportFile, Threads

if TYPE_CHECKING:
    from masklet.benchmark.record import BenchmarkCase, OptionValue

__all__ = ["image", "startup"]


def startup(
    model: EvalModel = None,
    repeats: Annotated[int, typer.Option(help="Rounds after a warm-up round.", min=1)] = 5,
    device: Device = None,
    report_file: ReportFile = None,
) -> None:
    """Time `import masklet`, and a command to its first mask, as complete processes.

    \b
    Examples:
      masklet bench startup
      masklet bench startup --repeats 3 --device cpu --report startup.json
    """
    from masklet.benchmark.startup import PROTOCOL, measure_startup
    from masklet.runtime import resolve_device

    resolved, name = resolve_device(device), model or "builtin"
    cases = measure_startup(name, resolved, repeats)
    show_record(make_record(PROTOCOL, name, {"repeats": repeats}, resolved, None, cases, report_file))


def image(
    model: EvalModel = None,
    precisions: Annotated[str, typer.Option(help="fp32, bf16, fp16, separated by commas.")] = "fp32",
    repeats: Annotated[int, typer.Option(help="Rounds after a warm-up round.", min=1)] = 5,
    points: Annotated[int, typer.Option(help="Points per side of the grid of mask generation.", min=1)] = 32,
    device: Device = None,
    threads: Threads = None,
    beside: Beside = 0,
    cpu_quota: CpuQuota = None,
    compiled: Annotated[bool, typer.Option("--compiled", help="Also the encoder by torch.compile.")] = False,
    image_size: ImageSize = None,
    image_path: ImageFile = None,
    report_file: ReportFile = None,
) -> None:
    """Time encoding, one prompt, 64 prompts and automatic mask generation, and measure memory.

    Each precision runs in a separate process. The limits of the machine are measured before and after; lower bound is
    the time for the operations or bytes at that rate (limited by says which), and of limit the fraction that is
    reached. With --beside and --cpu-quota each precision is measured on a busy machine and with a quota, too.

    \b
    Examples:
      masklet bench image --precisions fp32,bf16 --report before.json
      masklet bench image --model sam2.1_t.pt --points 16 --repeats 3 --compiled
      masklet bench image --beside 1
    """
    from masklet.benchmark import roofline, subprocess_runner
    from masklet.benchmark.image import PROTOCOL, ImageBenchmarkJob
    from masklet.cpu_threads import fix_threads
    from masklet.image.predictor import PRECISIONS
    from masklet.runtime import resolve_device

    if threads:
        fix_threads(threads)
    names = validate_choices(split_commas(precisions), PRECISIONS, "precisions")
    jobs = [
        ImageBenchmarkJob(
            model or "builtin",
            precision,
            resolve_device(device),
            repeats,
            points,
            threads,
            image_size,
            image_path=str(image_path) if image_path else None,
            compiled=with_compile,
            beside=processes,
            cpu_quota=quota,
        )
        for processes, quota in dict.fromkeys([(0, None), (beside, None), (0, cpu_quota)])
        for precision in names
        for with_compile in ((False, True) if compiled else (False,))
    ]
    first = jobs[0]
    options: dict[str, OptionValue] = {
        "precisions": list(names),
        "repeats": repeats,
        "points_per_side": points,
        "compiled": compiled,
        "image_size": image_size,
        "beside": beside,
        "cpu_quota": cpu_quota,
        "image": Path(image_path).name if image_path else list(first.sample_size),
    }
    cases: list[BenchmarkCase] = []

    limits = roofline.measure_hardware_limits(first.device)  # before and after: the higher count
    with progress_bar("settings", len(jobs), enabled=True) as step:
        for job in jobs:
            cases.extend(subprocess_runner.run_in_subprocess(job).cases)
            make_record(PROTOCOL, first.model, options, first.device, limits, cases, report_file)
            step()
    limits = limits.maximum(roofline.measure_hardware_limits(first.device))
    show_record(make_record(PROTOCOL, first.model, options, first.device, limits, cases, report_file))
