"""`python -m benchmarks`: compare masklet with other programs.

Each command measures the limits of the machine before and after, prints a table, and writes its report after every
part, so that a run that is stopped leaves what it has measured.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import builtin_errors as error_measures
from benchmarks import environments as peer_environments
from benchmarks import image as image_comparison
from benchmarks import mask_generation as mask_comparison
from benchmarks import video as video_comparison
from benchmarks.environments import PEERS, Peer, environment_dir, find_peer, installed_packages
from benchmarks.interleaved import ComparisonResult
from benchmarks.process import resolve_interpreters
from masklet.atomic_files import write_text
from masklet.benchmark import roofline
from masklet.benchmark.record import BenchmarkRecord, OptionValue
from masklet.benchmark.roofline import HardwareLimits
from masklet.cli.bench.bench_tables import (
    ImageFile,
    make_record,
    parse_positive_ints,
    show_record,
    show_table,
    split_commas,
    validate_choices,
)
from masklet.cli.console import command_line, one_line_warnings, print_error, progress_bar, set_command_args
from masklet.cli.shared_options import Device, EvalModel, ImageSize, Precision, ReportFile, Threads
from masklet.errors import MaskletError

__all__ = ["app", "run"]

PROGRAM = "python -m benchmarks"
DEFAULT_MODEL = "sam2.1_hiera_tiny"
"""The default model: other programs do not have the built-in one."""
PEER_COLUMNS = ("peer", "description", "license of its code", "installed")

app = typer.Typer(help="Compare masklet with other programs.", no_args_is_help=True)

Peers = Annotated[
    str, typer.Option(help=f"Programs to compare with, separated by commas; `{PROGRAM} environments` lists them.")
]
PeerPythons = Annotated[
    list[str] | None,
    typer.Option("--peer-python", metavar="PEER=FILE", help="The interpreter of an environment that you made."),
]

Compare = Callable[[Callable[[ComparisonResult], None]], ComparisonResult]


@app.command()
def image(
    peers: Peers = "sam2",
    peer_python: PeerPythons = None,
    model: EvalModel = None,
    precisions: Annotated[str, typer.Option(help="fp32, bf16, fp16, separated by commas.")] = "fp32",
    repeats: Annotated[int, typer.Option(help="Rounds after a warm-up round.", min=1)] = 5,
    device: Device = None,
    threads: Threads = None,
    image_size: ImageSize = None,
    image_path: ImageFile = None,
    report_file: ReportFile = None,
) -> None:
    """Compare encoding, one prompt and 64 prompts on one image.

    \b
    Examples:
      python -m benchmarks image --peers sam2,transformers --threads 2 --report beside.json
    """
    from masklet.image.predictor import PRECISIONS
    from masklet.runtime import resolve_device

    names = validate_choices(split_commas(precisions), PRECISIONS, "precisions")
    pythons = resolve_interpreters(split_commas(peers), peer_python or ())
    job = image_comparison.ImageComparisonJob(
        model or DEFAULT_MODEL, names, repeats, resolve_device(device), _set_threads(threads), image_size, image_path
    )
    options: dict[str, OptionValue] = {
        "precisions": list(names),
        "repeats": repeats,
        "image_size": image_size,
        "image": image_path.name if image_path else list(job.sample_size),
    }
    _run_comparison(
        ("settings", len(names)),
        lambda on_update: image_comparison.compare_image(job, pythons, on_update),
        image_comparison.PROTOCOL,
        options,
        pythons,
        job.device,
        report_file,
    )


@app.command()
def video(
    peers: Peers = "sam2",
    peer_python: PeerPythons = None,
    model: EvalModel = None,
    objects: Annotated[str, typer.Option(help="Numbers of objects, 1 to 64, separated by commas.")] = "1,2,4,8",
    frames: Annotated[int, typer.Option(help="Timed frames, after seven warm-up frames.", min=1)] = 20,
    device: Device = None,
    precision: Precision = "fp32",
    threads: Threads = None,
    image_size: ImageSize = None,
    report_file: ReportFile = None,
) -> None:
    """Compare tracking by number of objects, frame by frame.

    \b
    Examples:
      python -m benchmarks video --peers sam2 --objects 1,2 --frames 3
    """
    from masklet.runtime import resolve_device

    counts = list(dict.fromkeys(parse_positive_ints(objects, "--objects")))
    pythons = resolve_interpreters(split_commas(peers), peer_python or ())
    job = video_comparison.VideoComparisonJob(
        model or DEFAULT_MODEL,
        tuple(counts),
        frames,
        precision,
        resolve_device(device),
        _set_threads(threads),
        image_size,
    )
    options: dict[str, OptionValue] = {
        "objects": counts,
        "frames": frames,
        "precision": precision,
        "image_size": image_size,
        "image": list(job.frame_size),
    }
    _run_comparison(
        ("numbers of objects", len(counts)),
        lambda on_update: video_comparison.compare_videos(job, pythons, on_update),
        video_comparison.PROTOCOL,
        options,
        pythons,
        job.device,
        report_file,
    )


@app.command("mask-generation")
def mask_generation(
    peers: Peers = "sam2",
    peer_python: PeerPythons = None,
    model: EvalModel = None,
    cases: Annotated[
        str, typer.Option(help="thresholds, small, all, crops, second pass; separated by commas.")
    ] = "thresholds,small,all",
    points: Annotated[int, typer.Option(help="Points per side of the grid.", min=1)] = 16,
    repeats: Annotated[int, typer.Option(help="Rounds; every one is counted.", min=1)] = 1,
    device: Device = None,
    precision: Precision = "fp32",
    threads: Threads = None,
    image_size: Annotated[int, typer.Option("--image-size", metavar="N", help="Side of the scaled image.")] = 512,
    image_path: ImageFile = None,
    report_file: ReportFile = None,
) -> None:
    """Compare automatic mask generation: speed in wall time and CPU time, and whether the masks are the same.

    \b
    Examples:
      python -m benchmarks mask-generation --peers sam2 --threads 1 --report everything.json
      python -m benchmarks mask-generation --peers sam2 --points 6 --cases "crops,second pass"
    """
    from masklet.image.predictor import PRECISIONS
    from masklet.runtime import resolve_device

    validate_choices([precision], PRECISIONS, "precision")
    names = validate_choices(split_commas(cases), mask_comparison.OPTION_SETS, "cases")
    pythons = resolve_interpreters(split_commas(peers), peer_python or ())
    job = mask_comparison.MaskGenerationComparisonJob(
        model or DEFAULT_MODEL,
        names,
        points,
        repeats,
        precision,
        resolve_device(device),
        _set_threads(threads),
        image_size,
        image_path,
    )
    options: dict[str, OptionValue] = {
        "cases": list(names),
        "points_per_side": points,
        "repeats": repeats,
        "precision": precision,
        "image_size": image_size,
        "image": image_path.name if image_path else list(job.sample_size),
    }
    _run_comparison(
        ("cases", len(names)),
        lambda on_update: mask_comparison.compare_mask_generation(job, pythons, on_update),
        mask_comparison.PROTOCOL,
        options,
        pythons,
        job.device,
        report_file,
    )


@app.command("builtin-errors")
def builtin_errors(
    data: Annotated[
        list[str], typer.Argument(metavar="[NAME=]DATA...", help="Folders with SOURCE/images and SOURCE/masks.")
    ],
    images: Annotated[int, typer.Option(help="Images of each folder, spread evenly over sources.", min=1)] = 120,
    objects: Annotated[int, typer.Option(help="Objects of an image, at most.", min=1)] = 6,
    model: EvalModel = None,
    threads: Threads = None,
    rows_file: Annotated[
        Path | None, typer.Option("--rows", metavar="FILE", help="Write the figures of every object as JSON.")
    ] = None,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.svg", help="Draw true over predicted IoU.")
    ] = None,
) -> None:
    """Show where the built-in model, or another one, loses: by size, source, resolution, decoder, choice and border.

    Several folders are compared, such as held-out images and training images, over the sources that all have.

    \b
    Examples:
      python -m benchmarks builtin-errors held-out=heldout training=stills --rows rows.json
    """
    from masklet.sam import SAM

    _set_threads(threads)
    roots = {}
    for word in data:
        name, equals, folder = word.partition("=")
        roots[name if equals else Path(word).name] = Path(folder if equals else word)
    samples = error_measures.choose_samples(roots, images)
    predictor, rows = SAM(model).predictor, []
    cells = predictor.model.still_image_size // 4  # masks have stride 4
    with progress_bar("images", sum(map(len, samples.values())), enabled=True) as step:
        for split, chosen in samples.items():
            for sample in chosen:
                rows += error_measures.measure_objects(predictor, sample, split, objects, cells=cells)
                if rows_file is not None:
                    error_measures.write_rows(rows, rows_file)
                step()
    if plot_file is not None:
        write_text(plot_file, error_measures.reliability_svg(rows))
    for title, table in error_measures.error_tables(rows).items():
        typer.echo(f"\n{title}")
        show_table(table[0], table[1:], left_aligned=table[0][:1])


@app.command()
def trunks(
    data: Annotated[Path, typer.Argument(help="Folder of training images, as for `masklet train --data`.")],
    heldout: Annotated[Path, typer.Option(help="Folder of images to measure on.")],
    variant: Annotated[str, typer.Option(help="today, wide, lite, plain, short or shipped.")] = "today",
    minutes: Annotated[float, typer.Option(help="Processor time of training; 0: the start as it is.", min=0)] = 8,
    features: Annotated[
        bool, typer.Option("--features", help="Learn the features of the shipped model, and keep its heads.")
    ] = False,
    lite_weights: Annotated[Path | None, typer.Option(help="EfficientNet-Lite0, a .pth file.")] = None,
    davis: Annotated[Path | None, typer.Option(help="DAVIS, for J&F with --features.")] = None,
    images: Annotated[int, typer.Option(help="Images that are measured.", min=1)] = 60,
    weights_file: Annotated[Path | None, typer.Option("--weights", help="Where to keep the trained weights.")] = None,
    report_file: ReportFile = None,
) -> None:
    """Train the built-in model with another trunk for a few minutes, on one thread, and measure it.

    \b
    Examples:
      python -m benchmarks trunks stills --heldout heldout --variant plain --minutes 8
      python -m benchmarks trunks stills --heldout heldout --variant short --minutes 8 --features --davis DAVIS
    """
    import json
    from dataclasses import asdict

    from benchmarks.trunks import compare_trunk
    from masklet.atomic_files import write_text

    _set_threads(1)

    def show_step(step: int, loss: float) -> None:
        if step % 20 == 0:
            typer.echo(f"step {step}, loss {loss:.3f}", err=True)

    figures = compare_trunk(
        variant,
        data,
        heldout,
        minutes=minutes,
        shipped_heads=features,
        lite_weights=lite_weights,
        davis=davis,
        images=images,
        weights_file=weights_file,
        on_step=show_step,
    )
    text = json.dumps(asdict(figures), indent=1)
    typer.echo(text)
    if report_file is not None:
        write_text(report_file, text + "\n")


@app.command()
def environments(
    create: Annotated[
        str | None, typer.Option("--create", metavar="NAMES", help="Create these, separated by commas, or all.")
    ] = None,
    remove: Annotated[
        str | None, typer.Option("--remove", metavar="NAMES", help="Remove these, of all versions.")
    ] = None,
) -> None:
    """List the programs that masklet is compared with; create or remove their environments.

    Each is a folder of one to two GB in the cache folder, filled by pip with pinned versions.

    \b
    Examples:
      python -m benchmarks environments
      python -m benchmarks environments --create sam2,transformers
      python -m benchmarks environments --remove all
    """
    to_remove, to_create = _parse_peers(remove), _parse_peers(create)
    for peer in to_remove:
        typer.echo(f"{peer.name}: {peer_environments.remove_environments(peer)} removed")
    for peer in to_create:
        with progress_bar(f"creating {peer.name}, parts", len(peer.installs) + 1, enabled=True) as step:
            typer.echo(f"{peer.name}: {peer_environments.create_environment(peer, step)}")
    rows = []
    for peer in PEERS.values():
        packages = installed_packages(peer)
        state = "no" if packages is None else f"{packages.get(peer.name, '?')}, torch {packages.get('torch', '?')}"
        rows.append((peer.name, peer.description, peer.license, state))
    show_table(PEER_COLUMNS, rows, left_aligned=PEER_COLUMNS)
    folder = environment_dir(next(iter(PEERS.values()))).parent
    typer.echo(f"Environments go to {folder} (MASKLET_HOME chooses another folder).")


def _parse_peers(text: str | None) -> list[Peer]:
    names = split_commas(text or "")
    return [find_peer(name) for name in (PEERS if names == ["all"] else names)]


def _set_threads(threads: int | None) -> int:
    """Set the number of threads of PyTorch, if given; return the current number."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def _run_comparison(
    progress: tuple[str, int],
    compare: Compare,
    protocol: str,
    options: Mapping[str, OptionValue],
    pythons: Mapping[str, Path],
    device: str,
    report_file: Path | None,
) -> None:
    """Run a comparison, write its report after each part, and show it."""
    results: list[ComparisonResult] = []

    def record(limits: HardwareLimits) -> BenchmarkRecord:
        result = results[-1]
        all_options = {"peers": list(pythons)[1:], "weights": result.weights.source_label, **options}
        words = command_line()
        command = words.replace("masklet", PROGRAM, 1) if words else None
        return make_record(
            protocol,
            result.weights.model,
            all_options,
            device,
            limits,
            result.cases,
            report_file,
            result.versions,
            command,
        )

    limits = roofline.measure_hardware_limits(device)  # before and after: the higher count
    with progress_bar(*progress, enabled=True) as step:

        def on_update(result: ComparisonResult) -> None:
            results.append(result)
            record(limits)
            step()

        results.append(compare(on_update))
    show_record(record(limits.maximum(roofline.measure_hardware_limits(device))))


def run(args: Sequence[str] | None = None) -> None:
    """Run one command line and exit with its code; errors of masklet are one line."""
    words = list(sys.argv[1:] if args is None else args)
    set_command_args(words)
    with one_line_warnings():
        try:
            app(words, prog_name=PROGRAM)
        except MaskletError as error:
            print_error(str(error))
            sys.exit(2)


if __name__ == "__main__":
    run()
