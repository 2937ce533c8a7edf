"""`masklet bench video`: seconds a frame by number of objects, memory by length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.bench.bench_tables import numbers, show_record, written
from masklet.cli.bench.peer_options import USUAL_MODEL, PeerPythons, Peers, interpreters, measured, refuse_with_peers
from masklet.cli.console import counting
from masklet.cli.shared_options import Device, EvalModel, FigureFile, ImageSize, Precision

if TYPE_CHECKING:
    from masklet.benchmark.peers.interleaved import Compared
    from masklet.benchmark.record import Case, Option, Record
    from masklet.benchmark.roofline import Limits
    from masklet.benchmark.video import VideoJob

__all__ = ["video"]

GREW = 1
"""The exit code where memory is not flat."""


def video(
    model: EvalModel = None,
    objects: Annotated[str, typer.Option(help="Numbers of objects, 1 to 64, with commas between them.")] = "1,2,4,8",
    frames: Annotated[int, typer.Option(help="Counted, behind seven that are not.", min=1)] = 20,
    lengths: Annotated[
        str | None, typer.Option(help="Frames at which memory is read too, such as 100,1000,10000.")
    ] = None,
    parts: Annotated[bool, typer.Option("--parts", help="Also where the time of a frame goes.")] = False,
    through: Annotated[str, typer.Option(help="live: frames are handed in; session: it reads the film.")] = "live",
    settle: Annotated[int, typer.Option(help="The frame from which on memory must be flat.", min=1)] = 100,
    bound: Annotated[float, typer.Option(help="MB that memory may rise from there on.", min=0)] = 24.0,
    peers: Peers = None,
    peer_python: PeerPythons = None,
    device: Device = None,
    precision: Precision = "fp32",
    threads: Annotated[int | None, typer.Option(help="Of PyTorch; default: as it likes.", min=1)] = None,
    image_size: ImageSize = None,
    report_file: FigureFile = None,
) -> None:
    """How long a frame takes with as many objects, all memories full; and whether memory grows with the film.

    Every number of objects is a process of its own. Memory by length is read while the most of them are followed, and
    where it is not flat the command ends with 1. Parts are encode, track, remember, masks at full size and the rest.

    With --peers masklet and these programs follow the same objects by turns, frame by frame, and what they find is
    compared; the model is then one that they have too, SAM 2.1 tiny where none is named.

    \b
    Examples:
      masklet bench video --objects 1,2,4,8 --json video.json
      masklet bench video --objects 1 --parts
      masklet bench video --objects 5 --lengths 100,1000,5000,10000 --through session
      masklet bench video --peers sam2 --objects 1,2 --frames 3
    """
    import torch

    from masklet.benchmark.video import RISE, VideoJob
    from masklet.runtime import device_of

    if threads:
        torch.set_num_threads(threads)
    counts = list(dict.fromkeys(numbers(objects, "--objects")))
    if peers:
        refuse_with_peers({"--lengths": lengths is not None, "--parts": parts, "--through": through != "live"})
    pythons = interpreters(peers, peer_python)
    how = VideoJob(
        model or (USUAL_MODEL if pythons else "builtin"),
        frames=frames,
        precision=precision,
        device=device_of(device),
        threads=threads,
        image_size=image_size,
        parts=parts,
        through=through,
        settle=settle,
        bound=bound,
    )
    if pythons:
        show_record(_beside(how, counts, pythons, report_file))
        return
    record = _alone(how, counts, sorted(set(numbers(lengths, "--lengths"))) if lengths else [], report_file)
    show_record(record)
    if any(case.name == RISE and (case.median or 0) > bound for case in record.cases):
        raise typer.Exit(GREW)


def _alone(how: VideoJob, counts: list[int], lengths: list[int], report_file: Path | None) -> Record:
    from masklet.benchmark import subprocess_runner
    from masklet.benchmark.roofline import measure_limits
    from masklet.benchmark.video import PROTOCOL

    jobs = [replace(how, objects=count) for count in counts]
    if lengths:
        jobs.append(replace(how, objects=max(counts), lengths=tuple(lengths)))
    told: dict[str, Option] = {"lengths": lengths, "parts": how.parts, "through": how.through}
    options = _options(how, counts) | told | {"settle": how.settle, "bound": how.bound}
    cases: list[Case] = []

    def record(limits: Limits) -> Record:
        return written(PROTOCOL, how.model, options, how.device, limits, cases, report_file)

    def done(case: Case) -> None:
        cases.append(case)
        if report_file is not None:
            record(limits)
        step()

    limits = measure_limits(how.device)
    with counting("readings", None, wanted=True) as step:
        for job in jobs:
            subprocess_runner.ask(job, done)
    return record(limits.best(measure_limits(how.device)))


def _beside(how: VideoJob, counts: Sequence[int], pythons: Mapping[str, Path], report_file: Path | None) -> Record:
    import torch

    from masklet.benchmark.peers import video
    from masklet.benchmark.roofline import measure_limits

    job = video.FollowJob(
        how.model,
        tuple(counts),
        how.frames,
        how.precision,
        how.device,
        how.threads or torch.get_num_threads(),
        how.image_size,
        how.picture,
    )

    def record(found: Compared, limits: Limits) -> Record:
        told = _options(how, counts) | {"peers": list(pythons)[1:], "weights": found.weights.told}
        model, protocol = found.weights.model, video.PROTOCOL
        return written(protocol, model, told, how.device, limits, found.cases, report_file, found.versions)

    limits = measure_limits(how.device)
    found = measured(
        "numbers of objects",
        len(counts),
        lambda done: video.compare_followed(job, pythons, done),
        lambda found: record(found, limits),
    )
    return record(found, limits.best(measure_limits(how.device)))


def _options(how: VideoJob, counts: Sequence[int]) -> dict[str, Option]:
    return {
        "objects": list(counts),
        "frames": how.frames,
        "precision": how.precision,
        "image_size": how.image_size,
        "picture": list(how.picture),
    }
