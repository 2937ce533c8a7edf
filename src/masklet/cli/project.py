"""`masklet project`: what is in a project, add files, track, export and import, undo, and where its files are now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.console import ExitCode, progress_bar
from masklet.cli.shared_options import (
    DataFormat,
    Device,
    GraphCache,
    Model,
    Overwrite,
    Precision,
    Providers,
    Split,
    Threads,
    open_model,
    parse_runtime,
)

if TYPE_CHECKING:
    from masklet.datasets import DataIssue
    from masklet.projects import ProjectSource

__all__ = ["app"]

MAX_LISTED = 20
"""Issues and actions that are named."""

app = typer.Typer(help="Projects: sources, objects and masks that last.", no_args_is_help=True)
ProjectFolder = Annotated[Path, typer.Argument(metavar="PROJECT", help="Folder NAME.masklet.")]


@app.callback()
def _group() -> None:
    """Look into a project, add files, track, export and import, undo, and tell where moved files are."""


@app.command("info")
def info(
    path: ProjectFolder,
    history: Annotated[int, typer.Option(help="Number of actions to list, the latest first.", min=0)] = 5,
) -> None:
    """Print what a project holds, which of its files are missing, and the last actions.

    The exit code is 1 if a file is missing or has changed.

    \b
    Example:
      masklet project info clip.masklet --history 20
    """
    from masklet.projects import open_project

    with open_project(path, create=False) as project:
        typer.echo(f"{project.folder}, revision {project.revision}")
        objects, lost = project.objects(), 0
        typer.echo(f"  classes: {', '.join(cls.name for cls in project.classes) or 'none'}")
        for source in project.sources:
            masks = project.masks(source.id, with_rle=False)
            height, width = source.size
            frames = "image" if source.kind == "image" else f"video of {source.num_frames or 'unknown'} frames"
            state = project.source_state(source)
            lost += state != "present"
            typer.echo(
                f"  {source.name}: {frames}, {width} x {height}, "
                f"{sum(obj.source_id == source.id for obj in objects)} objects, {len(masks)} masks "
                f"({sum(mask.is_of_person for mask in masks)} of people), {len(project.verified(source))} verified"
                f"{'' if state == 'present' else f'; its file is {state}'}"
            )
        for action in project.history(history):
            when = datetime.fromtimestamp(action.at, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
            summary = f" ({action.summary})" if action.summary else ""
            state = "" if action.state in ("done", action.kind) else f", {action.state}"
            typer.echo(f"  {action.id:>6}  {when}  {action.author}: {action.kind}{summary}{state}")
    if lost:
        typer.echo("  masklet project relocate says where files are now")
        raise typer.Exit(ExitCode.BROKEN)


@app.command("add")
def add(
    path: ProjectFolder,
    files: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="Images, videos and folders of them.")],
    as_video: Annotated[bool, typer.Option("--as-video", help="A folder is one video, its images are frames.")] = False,
    author: Annotated[str | None, typer.Option(help="Who adds it.")] = None,
) -> None:
    """Add images and videos to a project, which is made if it is missing; files stay where they are.

    What the project has already is not added once more. The exit code is 1 if a file cannot be read and was left out.

    \b
    Examples:
      masklet project add clip.masklet clip.mp4
      masklet project add shot.masklet frames/ --as-video
    """
    from masklet.app.run_app import source_files
    from masklet.datasets import DataIssue
    from masklet.errors import SourceError
    from masklet.projects import open_project

    folders = [file for file in files if as_video and file.is_dir()]
    found = [*folders, *source_files(tuple(file for file in files if file not in folders))]
    issues, num_added, num_known = [], 0, 0
    with open_project(path) as project, progress_bar("files", len(found), enabled=True) as step:
        for file in found:
            revision = project.revision
            try:
                project.add_source(file, author=author)
            except SourceError as error:
                issues.append(DataIssue(file.name, file, str(error)))
            else:
                num_added += project.revision > revision
                num_known += project.revision == revision
            step()
    known = f", {num_known} were there already" if num_known else ""
    typer.echo(f"{path}: {num_added} images and videos added{known}")
    _end_with_issues(issues)


@app.command("track")
def track(
    path: ProjectFolder,
    names: Annotated[
        list[str] | None,
        typer.Option("--source", metavar="NAME|ID", help="A source; repeatable. Default: all that have prompts."),
    ] = None,
    objects: Annotated[
        str | None, typer.Option("--objects", metavar="ID,...", help="Ids of objects; default: all that have prompts.")
    ] = None,
    start: Annotated[int | None, typer.Option(help="First frame.", min=0)] = None,
    stop: Annotated[int | None, typer.Option(help="The frame after the last one.", min=1)] = None,
    bidirectional: Annotated[bool, typer.Option("--bidirectional", help="Both ways from the prompts.")] = False,
    model: Model = None,
    device: Device = None,
    precision: Precision = "auto",
    threads: Threads = None,
    providers: Providers = None,
    graph_cache: GraphCache = None,
) -> None:
    """Track the objects of a project by their prompts and by the masks of people, and store the masks.

    What people made or verified is kept. Stopped by Ctrl-C, what was tracked is stored; `masklet project undo` takes
    back an entire run.

    \b
    Examples:
      masklet project track clip.masklet
      masklet project track clip.masklet --source clip --objects 1,2 --start 30 --bidirectional
    """
    from contextlib import closing

    from masklet.cli.bench.bench_tables import parse_positive_ints
    from masklet.errors import InputError, StateError
    from masklet.projects import open_project

    with open_project(path, create=False) as project:
        chosen = []
        for name in names or ():
            matches = [one for one in project.sources if one.name == name or str(one.id) == name]
            if not matches:
                known = ", ".join(one.name for one in project.sources) or "none"
                raise InputError(f"--source {name!r:.80} is no source of {path}, which has {known:.300}: choose one")
            chosen.append(matches[0])
        records = [] if objects is None else [project.object(one) for one in parse_positive_ints(objects, "--objects")]
        for source in [] if chosen else project.sources:
            prompted = {one.object_id for one in project.prompts(source)}
            prompted |= {one.object_id for one in project.masks(source, with_rle=False) if one.is_of_person}
            editable = {one.id for one in project.objects(source) if not one.locked}
            if {one.id for one in records if one.source_id == source.id} or (not records and prompted & editable):
                chosen.append(source)
        for one in records:
            if one.source_id not in {source.id for source in chosen}:
                raise InputError(f"object {one.id} belongs to another source than those of --source: leave it out")
        if not chosen:
            raise StateError(f"no object of {path} has a prompt or a mask of a person: prompt one, in `masklet app`")
        opened = open_model(model, device, precision, None, parse_runtime(threads, providers, graph_cache))
        for source in chosen:
            own = [one.id for one in records if one.source_id == source.id] or None
            run = project.track(source, opened, objects=own, start=start, stop=stop, bidirectional=bidirectional)
            num_frames = num_masks = 0
            with progress_bar(source.name, source.num_frames, enabled=True) as step, closing(run):  # type: ignore[type-var]
                for results in run:
                    num_frames, num_masks = num_frames + 1, num_masks + len(results)
                    step()
            typer.echo(f"{source.name}: {num_frames} frames, {num_masks} masks")


@app.command("export")
def export(
    path: ProjectFolder,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Output folder; another one for each revision.")],
    to: Annotated[str, typer.Option(help="yolo, coco, labelme, davis, voc or cvat; or overlay, mots, png or masks.")],
    verified_only: Annotated[bool, typer.Option("--verified-only", help="Only what people have verified.")] = False,
    include_empty: Annotated[bool, typer.Option("--include-empty", help="Images without objects too.")] = False,
    segmentation: Annotated[
        str, typer.Option(help="In coco, labelme and cvat: rle (lossless), polygon or both.")
    ] = "rle",
    image_mode: Annotated[str, typer.Option("--images", help="Images in OUT: link, copy or none.")] = "link",
    overwrite: Overwrite = False,
) -> None:
    """Write the masks of a project as a dataset, as overlays or as files, and print what the format cannot hold.

    The exit code is 1 if a source is missing or a mask was dropped.

    \b
    Example:
      masklet project export clip.masklet out --to coco --verified-only
    """
    from masklet.datasets import WriteOptions
    from masklet.projects import open_project

    options = WriteOptions(segmentation=segmentation, images=image_mode, overwrite=overwrite)
    with open_project(path, create=False) as project, progress_bar("images", None, enabled=True) as step:
        result = project.export(
            to,
            out,
            verified_only=verified_only,
            include_empty=include_empty,
            options=options,
            progress=lambda done, total: step(completed=done, total=total),
        )
    typer.echo(f"{path} -> {result.folder} ({to}): {result.num_images} images, {result.num_objects} objects")
    for line in result.loss.summary_lines() if result.loss.objects else []:
        typer.echo(f"  {line}")
    _end_with_issues(result.issues)


@app.command("import")
def import_data(
    path: ProjectFolder,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder or file of a dataset; OUT of `masklet batch`.")],
    data_format: DataFormat = None,
    split: Split = None,
    author: Annotated[str | None, typer.Option(help="Who adds it.")] = None,
) -> None:
    """Add a dataset to a project, which is made if it is missing; stopped, the same command resumes.

    Masks of `masklet batch` stay those of its model, so that people verify them and tracking may replace them. The exit
    code is 1 if something in DATA is broken and was left out.

    \b
    Examples:
      masklet project import photos.masklet photos_auto_annotate_labels/coco
      masklet project import clips.masklet tracks
    """
    from masklet.data_engine.import_batch import is_batch
    from masklet.datasets import open_dataset
    from masklet.projects import open_project

    if data_format is None and is_batch(data):
        _import_batch(path, data)
        return
    open_dataset(data, data_format=data_format, split=split)  # before a folder is made
    with open_project(path) as project, progress_bar("images", None, enabled=True) as step:
        result = project.import_dataset(
            data,
            data_format=data_format,
            split=split,
            author=author,
            progress=lambda done, total: step(completed=done, total=total),
        )
    skipped = f", {result.num_skipped} were there already" if result.num_skipped else ""
    typer.echo(
        f"{data} -> {path}: {result.num_sources} images and videos{skipped}, {result.num_objects} objects, "
        f"{result.num_masks} masks"
    )
    for line in result.account.table_lines("read"):
        typer.echo(f"  {line}")
    _end_with_issues(result.issues)


def _import_batch(path: Path, out: Path) -> None:
    """Import a batch, and print what became of it."""
    from masklet.data_engine.import_batch import import_batch
    from masklet.datasets import DataIssue
    from masklet.projects import open_project

    with open_project(path) as project, progress_bar("items", None, enabled=True) as step:
        found = []
        for one in import_batch(project, out):
            found.append(one)
            step(one.item[-40:], completed=len(found))
    done = [one for one in found if not one.problem]
    skipped = sum(one.is_known for one in done)
    known = f", {skipped} were there already" if skipped else ""
    typer.echo(
        f"{out} -> {path}: {len(done) - skipped} images and videos{known}, "
        f"{sum(one.num_objects for one in done)} objects, {sum(one.num_masks for one in done)} masks"
    )
    _end_with_issues([DataIssue(one.item, out, one.problem) for one in found if one.problem])


@app.command("undo")
def undo(
    path: ProjectFolder,
    count: Annotated[int, typer.Option("--count", "-n", help="Number of steps.", min=1)] = 1,
    redo: Annotated[bool, typer.Option("--redo", help="Repeat what was undone instead.")] = False,
    author: Annotated[str | None, typer.Option(help="Only the actions of this author.")] = None,
) -> None:
    """Undo the last actions of a project, or redo them; a run of tracking or of an import is one step.

    \b
    Examples:
      masklet project undo clip.masklet
      masklet project undo clip.masklet --redo
    """
    from masklet.projects import open_project

    with open_project(path, create=False) as project:
        for _ in range(count):
            reverted = (project.redo if redo else project.undo)(author=author)
            if not reverted:
                typer.echo(f"nothing to {'redo' if redo else 'undo'}")
                return
            last = project.history(1)[0]
            typer.echo(f"{last.kind} of {len(reverted)} action(s): {last.summary or f'number {max(reverted)}'}")


@app.command("relocate")
def relocate(
    path: ProjectFolder,
    moved: Annotated[
        list[str] | None,
        typer.Option("--move", metavar="OLD=NEW", help="A file or folder, as it was and as it is; repeatable."),
    ] = None,
    search: Annotated[
        list[Path] | None,
        typer.Option("--search", metavar="DIR", help="Find missing files in and below a folder; repeatable."),
    ] = None,
) -> None:
    """Tell where the files of a project are on this machine; files are known by their content.

    Without options, name those that are missing. The exit code is 1 while files are missing.

    \b
    Examples:
      masklet project relocate clip.masklet --search ~/videos
      masklet project relocate clip.masklet --move /old/clip.mp4=/new/clip.mp4
    """
    from masklet.errors import InputError
    from masklet.projects import open_project

    pairs: dict[str, str] = {}
    for text in moved or ():
        old, equals, new = text.partition("=")
        if not (old and equals and new):
            raise InputError(f"--move {text!r} must be OLD=NEW, such as /old/clip.mp4=/new/clip.mp4")
        pairs[old] = new
    with open_project(path, create=False) as project:
        found = project.relocate(pairs, search=search or ())
        missing: Sequence[ProjectSource] = project.missing_sources()
        for source in found:
            typer.echo(f"found {source.name}: {project.source_path(source)}")
        for source in missing:
            typer.echo(f"{project.source_state(source)} {source.name}")
    if not found and not missing:
        typer.echo("all files are where they were")
    if missing:
        raise typer.Exit(ExitCode.BROKEN)


def _end_with_issues(issues: Sequence[DataIssue]) -> None:
    """Print what is broken, and end the command with the exit code of it."""
    for issue in issues[:MAX_LISTED]:
        typer.echo(f"  {issue.sample}: {issue.reason}")
    if len(issues) > MAX_LISTED:
        typer.echo(f"  ... and {len(issues) - MAX_LISTED} more")
    if issues:
        raise typer.Exit(ExitCode.BROKEN)
