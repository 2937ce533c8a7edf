"""The routes of the server: what each takes, and the call of the library that answers it.

Handlers are plain functions that may block; they run on threads. `ROUTES` is what the application, the check of fields
and the OpenAPI description are made from.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from masklet import __version__
from masklet.atomic_files import atomic_path
from masklet.datasets import DATASET_WRITERS
from masklet.datasets.write_log import STATE_FOLDER
from masklet.errors import InputError
from masklet.masks import rle
from masklet.masks.rle import Rle
from masklet.media import SourceImage
from masklet.projects import ProjectMask
from masklet.projects.project_renders import RENDER_FORMATS
from masklet.results import Results
from masklet.sam import SAM
from masklet.server.api_errors import ApiError
from masklet.server.api_fields import ApiField
from masklet.server.prompt_jobs import MAX_THRESHOLD, PromptJob, check_view
from masklet.server.video_review import find_differences
from masklet.server.work_sessions import ServerState, WorkSession
from masklet.written_files import RECORD_FILE

__all__ = ["ROUTES", "ApiCall", "ApiFile", "ApiRoute", "MaskAnswer", "candidate_work", "prompt_job", "result_masks"]

MAX_FILES = 10_000
MAX_MASKS = 2_000
"""Masks of one answer; a longer video is read in parts."""
EXPORT_NAME = re.compile(r"[a-z0-9_]{1,40}-\d{1,12}(-verified)?\.zip")
MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg"}


@dataclass(frozen=True)
class ApiCall:
    """A request whose fields are checked: path, query and JSON in one table, and the bytes of an upload."""

    state: ServerState
    fields: Mapping[str, Any]
    body: bytes = b""

    @property
    def session(self) -> WorkSession:
        """The session in the path.

        Raises:
            ApiError: if it is not open.
        """
        return self.state.session(self.fields["session"])

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field, or the default if it was left out."""
        return self.fields.get(name, default)


@dataclass(frozen=True)
class ApiFile:
    """An answer that is no JSON: bytes, or a file to send."""

    media_type: str
    content: bytes | Path


@dataclass(frozen=True)
class MaskAnswer:
    """An answer with masks, each with what is known of it; JSON over HTTP, binary over a WebSocket."""

    header: dict[str, Any]
    codes: Sequence[tuple[dict[str, Any], Rle]]


@dataclass(frozen=True)
class ApiRoute:
    """One verb of the server."""

    method: str
    path: str
    handler: Callable[[ApiCall], Any]
    about: str
    body: Mapping[str, ApiField] = field(default_factory=dict)
    query: Mapping[str, ApiField] = field(default_factory=dict)
    binary: bool = False
    """Whether the body is the bytes of a file."""

    @property
    def path_fields(self) -> dict[str, ApiField]:
        """The fields of the path: numbers, except those that are names."""
        names = re.findall(r"{(\w+)}", self.path)
        return {
            name: ApiField("string" if name in ("session", "name") else "integer", f"The {name}.", True)
            for name in names
        }


def result_masks(results: Results, *, limit: int = MAX_MASKS) -> list[tuple[dict[str, Any], Rle]]:
    """Return the masks of results, as messages have them.

    Raises:
        ApiError: if there are more than `limit`.
    """
    if len(results) > limit:
        raise ApiError(413, f"{len(results)} masks are more than {limit} in one answer: choose fewer objects")
    found = []
    for row in range(len(results) if results.masks is not None else 0):
        known: dict[str, Any] = {"object": int(results.ids[row]), "score": float(results.scores[row])}
        if results.states is not None:
            known["state"] = results.states[row]
        assert results.masks is not None, "checked above"
        found.append((known, rle.encode(results.masks.data[row])))
    return found


# server -----------------------------------------------------------------------------------------------------------


def health(call: ApiCall) -> dict[str, Any]:
    """Say that the server answers, without using the model."""
    queue = call.state.queue
    return {
        "status": "ok",
        "version": __version__,
        "model_loaded": queue.model is not None,
        "sessions": len(call.state.sessions()),
        "queue": queue.depth,
    }


def model_info(call: ApiCall) -> dict[str, Any]:
    """Describe the model, which is loaded for that."""
    described = asdict(call.state.queue.run(lambda model: model.info()))
    return {**described, "path": Path(described["path"]).name}


def metrics(call: ApiCall) -> ApiFile:
    """Return the numbers of the server for Prometheus."""
    state = call.state
    gauges = {
        "masklet_sessions": len(state.sessions()),
        "masklet_queue": state.queue.depth,
        "masklet_requests_active": state.num_requests,
        "masklet_model_loaded": int(state.queue.model is not None),
    }
    return ApiFile("text/plain; version=0.0.4; charset=utf-8", state.metrics.text(gauges).encode())


def places(call: ApiCall) -> dict[str, Any]:
    """List the projects, the files from which sources may be added, and the formats of exports."""
    return {
        "projects": call.state.projects(),
        "files": call.state.files(MAX_FILES),
        "formats": [*DATASET_WRITERS, *RENDER_FORMATS],
    }


def limits(call: ApiCall) -> dict[str, Any]:
    """List the bounds of the server."""
    return asdict(call.state.limits)


# sessions and uploads -----------------------------------------------------------------------------------------------


def open_session(call: ApiCall) -> dict[str, Any]:
    """Open a session."""
    return call.state.open_session(call.get("project"), call.get("author")).describe()


def list_sessions(call: ApiCall) -> dict[str, Any]:
    """List the open sessions."""
    return {"sessions": [one.describe() for one in call.state.sessions()]}


def show_session(call: ApiCall) -> dict[str, Any]:
    """Describe a session, with all of its project but prompts and masks."""
    session = call.session
    project = session.project
    return {
        **session.describe(),
        "sources": [asdict(one) for one in project.sources],
        "classes": [asdict(one) for one in project.classes],
        "objects": [asdict(one) for one in project.objects()],
    }


def close_session(call: ApiCall) -> dict[str, Any]:
    """Close a session; its project stays."""
    call.state.close_session(call.session.id)
    return {"closed": True}


def upload_state(call: ApiCall) -> dict[str, Any]:
    """Say how much of an upload is here."""
    return {"offset": call.session.uploads.num_bytes(call.fields["name"])}


def upload_chunk(call: ApiCall) -> dict[str, Any]:
    """Store a chunk of a file."""
    end = call.session.uploads.write(call.fields["name"], call.get("offset", 0), call.body)
    call.state.metrics.add("masklet_upload_bytes_total", len(call.body))
    return {"offset": end}


def upload_finish(call: ApiCall) -> dict[str, Any]:
    """Add an upload as a source; a file that cannot be opened is deleted.

    `source_name` is by default that of the upload; where it is taken, a number is added.
    """
    session, name = call.session, call.fields["name"]
    path = session.uploads.finish(name, call.get("sha256"))
    try:
        session.check_path(path)
        wanted, number = call.get("source_name"), 2
        chosen, taken = wanted, {one.name for one in session.project.sources}
        while chosen in taken:
            chosen, number = f"{wanted}_{number}", number + 1
        return asdict(session.project.add_source(path, name=chosen, author=session.author))
    except InputError:
        path.unlink(missing_ok=True)
        raise
    except ApiError as error:
        if error.status == 413:
            path.unlink(missing_ok=True)
        raise


# sources, classes and objects ---------------------------------------------------------------------------------------


def list_sources(call: ApiCall) -> dict[str, Any]:
    """List the sources with the state of their files."""
    project = call.session.project
    return {"sources": [{**asdict(one), "state": project.source_state(one)} for one in project.sources]}


def add_source(call: ApiCall) -> dict[str, Any]:
    """Add an image, a video or a folder of images that lies in a folder of the server."""
    session = call.session
    path = session.check_path(call.fields["path"])
    return asdict(session.project.add_source(path, name=call.get("name"), author=session.author))


def delete_source(call: ApiCall) -> dict[str, Any]:
    """Remove a source from the project; its file stays."""
    session = call.session
    session.project.delete_source(session.source(call.fields["source"]), author=session.author)
    session.forget(call.fields["source"])
    return {"revision": session.project.revision}


def frame_image(call: ApiCall) -> ApiFile:
    """Return a frame: PNG has the pixels that the model sees, JPEG is smaller."""
    kind, quality = call.get("format", "png"), call.get("quality", 90)
    if kind not in MEDIA_TYPES or not 1 <= quality <= 100:
        raise ApiError(
            400, f"format={kind!r:.20}, quality={quality} is none; choose png, or jpeg with quality 1 to 100"
        )
    session, number, index = call.session, call.fields["source"], call.fields["frame"]
    session.source(number)
    key = (number, index, kind, quality)
    encoded = session.encoded.get(key)
    if encoded is None:
        buffer = io.BytesIO()
        options: dict[str, Any] = {"quality": quality, "subsampling": 0} if kind == "jpeg" else {"compress_level": 1}
        Image.fromarray(session.frame(number, index).rgb).save(buffer, kind, **options)
        encoded = buffer.getvalue()
        session.encoded.put(key, encoded, len(encoded))
    return ApiFile(MEDIA_TYPES[kind], encoded)


def add_class(call: ApiCall) -> dict[str, Any]:
    """Add a class."""
    session = call.session
    return asdict(session.project.add_class(call.fields["name"], color=call.get("color"), author=session.author))


def add_object(call: ApiCall) -> dict[str, Any]:
    """Add an object to a source."""
    session = call.session
    session.source(call.fields["source"])
    added = session.project.add_object(
        call.fields["source"],
        call.get("class"),
        name=call.get("name"),
        number=call.get("number"),
        author=session.author,
    )
    return asdict(added)


def list_objects(call: ApiCall) -> dict[str, Any]:
    """List the objects of a source, or all of them."""
    session, number = call.session, call.get("source")
    source = None if number is None else session.source(number)
    return {"objects": [asdict(one) for one in session.project.objects(source)]}


def change_object(call: ApiCall) -> dict[str, Any]:
    """Rename, reclassify, hide or lock an object."""
    session = call.session
    changed = session.project.update_object(
        session.object(call.fields["object"]),
        name=call.get("name"),
        cls=call.get("class"),
        hidden=call.get("hidden"),
        locked=call.get("locked"),
        author=session.author,
    )
    return asdict(changed)


def delete_object(call: ApiCall) -> dict[str, Any]:
    """Remove an object with its prompts and masks."""
    session = call.session
    session.project.delete_object(session.object(call.fields["object"]), author=session.author)
    return {"revision": session.project.revision}


# prompts and masks --------------------------------------------------------------------------------------------------


def decode_mask(code: Rle, size: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Decode a mask of a client that must have the size of the source.

    Raises:
        ApiError: if it has another size.
        InputError: if it is malformed.
    """
    if tuple(code["size"]) != size:
        raise ApiError(400, f"a mask of size {code['size']} does not fit the source of {list(size)}: scale it")
    return rle.decode(code)


def candidate_work(call: ApiCall) -> Callable[[SAM], Results]:
    """Return the work for the model that segments an image or a frame by prompts, and stores nothing.

    Raises:
        ApiError: if there is no such source or frame, or no prompt.
    """
    session, number = call.session, call.fields["source"]
    source = session.source(number)
    points, box, mask = call.get("points"), call.get("box"), call.get("mask")
    frame = session.frame(number, call.get("frame", 0))
    request: dict[str, Any] = {
        "points": None if points is None else [points],
        "labels": None if call.get("labels") is None else [call.get("labels")],
        "bboxes": None if box is None else [box],
        "masks": None if mask is None else decode_mask(mask, source.size)[None],
        "multimask": call.get("multimask"),
    }
    view = check_view(call.get("view"), source.size)
    if view is not None:
        request["view"] = view
    if points is None and box is None and mask is None:
        raise ApiError(400, "a request without points, box and mask has no object: give one of them, or use everything")

    def work(model: SAM) -> Results:
        [results] = model(SourceImage(frame.rgb, frame.path), **request)
        return results

    return work


def predict(call: ApiCall) -> MaskAnswer:
    """Segment by prompts and store nothing: for candidates and previews."""
    results = call.state.queue.run(candidate_work(call))
    return MaskAnswer({"source": call.fields["source"], "frame": call.get("frame", 0)}, result_masks(results))


def prompt_job(call: ApiCall) -> PromptJob:
    """Check the prompts of a request; `given` is empty where it has none.

    Raises:
        ApiError: if there is no such object, source or frame.
    """
    session, frame = call.session, call.get("frame", 0)
    project = session.project
    obj = None if call.get("object") is None else session.object(call.get("object"))
    if obj is None and call.get("source") is None:
        raise ApiError(400, "a prompt needs an object, or a source in which one is added: give object or source")
    source = session.source(call.get("source") if obj is None else obj.source_id)
    given = {name: call.get(name) for name in ("points", "labels", "box") if call.get(name) is not None}
    if call.get("mask") is not None:
        given["mask"] = decode_mask(call.get("mask"), source.size)
    view, threshold = check_view(call.get("view"), source.size), float(call.get("threshold", 0.0))
    if abs(threshold) > MAX_THRESHOLD:
        raise ApiError(400, f"threshold={threshold:g} must be from -{MAX_THRESHOLD} to {MAX_THRESHOLD}: 0 is usual")
    needs_image = bool(given) and (source.kind == "image" or view is not None)
    known = None if obj is None else project.mask(obj, frame)
    return PromptJob(
        session,
        source,
        obj,
        frame,
        given,
        view,
        threshold,
        session.frame(source.id, frame) if needs_image else None,
        known if known is not None and known.rle is not None else None,
    )


def set_prompt(call: ApiCall) -> MaskAnswer:
    """Replace the prompts of an object on a frame, and store the mask that the model answers, in one action.

    Without `object`, a new one is added to `source` in the same action. On images the mask is that of `SAM`, on videos
    that of `Session.add_prompt`, from which tracking starts. A mask of another threshold, or of a view, is a person's
    choice: tracking starts from it and does not replace it.
    """
    job = prompt_job(call)
    session, source, obj, frame = job.session, job.source, job.obj, job.frame
    project = session.project
    header = {"source": source.id, "frame": frame}
    if not job.given:
        if obj is None:
            raise ApiError(400, "a new object needs points, box or mask: give one of them")
        with project.action("prompt", session.author, obj.name, run=call.get("run")):
            project.set_prompt(obj, frame, author=session.author)
        return MaskAnswer({**header, "revision": project.revision}, [])
    if obj is not None and obj.locked:
        project.set_prompt(obj, frame, author=session.author, **job.given)  # raises what a locked object raises
    results = call.state.queue.run(job.segment)
    code, score = job.mask(results)
    origin = "edit" if job.threshold or job.view is not None else "click"
    with project.action("prompt", session.author, "new object" if obj is None else obj.name, run=call.get("run")):
        if obj is None:
            obj = project.add_object(source, call.get("class"), author=session.author)
        project.set_prompt(obj, frame, author=session.author, **job.given)
        project.set_mask(obj, frame, code, score=score, origin=origin, author=session.author)
    known_of_it = {"object": obj.id, "score": float(results.scores[0]), "state": "visible"}
    return MaskAnswer({**header, "revision": project.revision}, [(known_of_it, code)])


def list_prompts(call: ApiCall) -> dict[str, Any]:
    """List the prompts of a source."""
    session = call.session
    source = session.source(call.fields["source"])
    return {"prompts": [asdict(one) for one in session.project.prompts(source, call.get("frame"))]}


def everything(call: ApiCall) -> MaskAnswer:
    """Segment everything on an image or a frame; with `store`, each mask becomes an object, in one action."""
    session, number, index = call.session, call.fields["source"], call.get("frame", 0)
    source, project = session.source(number), session.project
    frame, preset = session.frame(number, index), call.get("preset", "default")

    def work(model: SAM) -> Results:
        [results] = model(SourceImage(frame.rgb, frame.path), everything=preset)
        return results

    codes = result_masks(call.state.queue.run(work))
    if call.get("store", False):
        with project.action("everything", session.author, source.name):
            for known, code in codes:
                added = project.add_object(source, author=session.author)
                project.set_mask(
                    added, index, code, score=min(1.0, max(0.0, known["score"])), origin="click", author=session.author
                )
                known["object"] = added.id
    return MaskAnswer({"source": number, "frame": index, "revision": project.revision}, codes)


def stored_masks(call: ApiCall) -> MaskAnswer:
    """Return the masks of a source from frame `start` to before `stop`; `next` is the frame to continue from."""
    session, start = call.session, call.get("start", 0)
    source = session.source(call.fields["source"])
    listed = session.project.masks(source, start, call.get("stop"), with_rle=False)
    following = None
    if len(listed) > MAX_MASKS and call.get("rle", True):
        following = max(listed[MAX_MASKS].frame, start + 1)
    stop = following if following is not None else call.get("stop")
    codes = []
    for one in session.project.masks(source, start, stop) if call.get("rle", True) else listed:
        code: Rle = one.rle if one.rle is not None else {"size": list(source.size), "counts": ""}
        codes.append((described_mask(one), code))
    return MaskAnswer({"source": source.id, "next": following, "revision": session.project.revision}, codes)


def described_mask(mask: ProjectMask) -> dict[str, Any]:
    """Return what is known of a stored mask."""
    return {
        "object": mask.object_id,
        "frame": mask.frame,
        "state": mask.state,
        "score": mask.score,
        "origin": mask.origin,
        "author": mask.author,
        "at": mask.at,
        "verified": mask.is_verified,
        "dropped": mask.is_dropped,
    }


def set_mask(call: ApiCall) -> dict[str, Any]:
    """Set the mask of an object on a frame, as drawn, or as chosen of candidates; without a mask, remove it.

    Without `object`, a new one is added to `source` in the same action.
    """
    session = call.session
    obj = None if call.get("object") is None else session.object(call.get("object"))
    if obj is None and (call.get("source") is None or call.get("mask") is None):
        raise ApiError(400, "a mask needs an object; or give source and mask, and an object is added")
    source = session.source(call.get("source") if obj is None else obj.source_id)
    code, project = call.get("mask"), session.project
    if code is not None:
        decode_mask(code, source.size)
    with project.action("mask", session.author, "new object" if obj is None else obj.name, run=call.get("run")):
        if obj is None:
            obj = project.add_object(source, call.get("class"), author=session.author)
        project.set_mask(
            obj,
            call.get("frame", 0),
            code,
            state=call.get("state", "visible"),
            score=call.get("score"),
            origin=call.get("origin", "edit"),
            author=session.author,
        )
    return {"object": obj.id, "revision": project.revision}


def verify(call: ApiCall) -> dict[str, Any]:
    """Mark that a person has checked an object on a frame."""
    session = call.session
    obj = session.object(call.fields["object"])
    session.project.verify(obj, call.get("frame", 0), call.get("verified", True), author=session.author)
    return {"revision": session.project.revision}


# review of videos ---------------------------------------------------------------------------------------------------


def doubts(call: ApiCall) -> dict[str, Any]:
    """List the frames of a source that should be checked, the most useful first.

    `backward` has how much tracking backward differs, from 0 to 1, of masks that were checked and not changed since.
    """
    session = call.session
    source = session.source(call.fields["source"])
    found = session.doubts.find(source, call.get("limit", 50))
    backward = [
        {"object": object_id, "frame": frame, "difference": round(value, 4)}
        for (frame, object_id), value in sorted(session.doubts.backward(source).items())
    ]
    return {"doubts": [asdict(one) for one in found], "backward": backward, "revision": session.project.revision}


def differences(call: ApiCall) -> dict[str, Any]:
    """List the masks of a source that are others than at a revision."""
    session = call.session
    source = session.source(call.fields["source"])
    found = find_differences(session.project, source, call.fields["since"])
    return {"differences": [asdict(one) for one in found], "revision": session.project.revision}


def swap(call: ApiCall) -> dict[str, Any]:
    """Exchange two objects from a frame on, where tracking has confused them.

    Prompts and masks change their object. Both masks of the frame become drawn ones, so that tracking starts from them
    and does not confuse the objects there again.
    """
    session, frame = call.session, call.fields["frame"]
    one, other = session.object(call.fields["first"]), session.object(call.fields["second"])
    project = session.project
    with project.action("swap", session.author, f"{one.name} and {other.name} from frame {frame}"):
        project.swap(one, other, from_frame=frame, author=session.author)
        for obj in (one, other):
            mask = project.mask(obj, frame)
            if mask is not None and mask.rle is not None and not mask.is_of_person:
                project.set_mask(
                    obj, frame, mask.rle, state=mask.state, score=mask.score, origin="edit", author=session.author
                )
    return {"revision": project.revision}


# history and export -------------------------------------------------------------------------------------------------


def undo(call: ApiCall) -> dict[str, Any]:
    """Undo the last action of anyone, or with `mine` the last one of this session's author."""
    session = call.session
    reverted = session.project.undo(author=session.author if call.get("mine", False) else None)
    return {"actions": reverted, "revision": session.project.revision}


def redo(call: ApiCall) -> dict[str, Any]:
    """Repeat what was undone last."""
    session = call.session
    repeated = session.project.redo(author=session.author if call.get("mine", False) else None)
    return {"actions": repeated, "revision": session.project.revision}


def history(call: ApiCall) -> dict[str, Any]:
    """List the last actions, the latest first."""
    limit = min(call.get("limit", 100), MAX_FILES)
    return {"actions": [asdict(one) for one in call.session.project.history(limit, before=call.get("before"))]}


def changes(call: ApiCall) -> dict[str, Any]:
    """List what changed after a revision, to follow other clients."""
    found = call.session.project.changes_since(call.fields["since"], max_actions=100)
    return {"changes": [asdict(one) for one in found], "revision": call.session.project.revision}


def export(call: ApiCall) -> dict[str, Any]:
    """Export the project in a format, as one ZIP file to download."""
    session, data_format = call.session, call.fields["format"]
    project, verified = session.project, call.get("verified_only", False)
    if not re.fullmatch(r"[a-z0-9_-]{1,40}", data_format):
        raise ApiError(400, f"format={data_format!r:.60} is none: choose one of `masklet convert --help`, such as coco")
    stem = f"{data_format.replace('-', '_')}-{project.revision}{'-verified' if verified else ''}"
    folder = project.folder / "exports" / stem
    for source in project.sources:
        if project.source_state(source) == "present":
            session.check_path(project.source_path(source))
    folder.parent.mkdir(exist_ok=True)
    result = project.export(data_format, folder, verified_only=verified)
    archive = folder.with_name(stem + ".zip")
    with atomic_path(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, True, 1) as file:
        for top, folders, names in os.walk(folder):
            folders[:] = sorted(set(folders) - {STATE_FOLDER})  # the log of the writer is of no use elsewhere
            for name in sorted(set(names) - {RECORD_FILE}):
                one = Path(top, name)
                file.write(one, one.relative_to(folder))
    return {
        "name": archive.name,
        "bytes": archive.stat().st_size,
        "num_images": result.num_images,
        "num_objects": result.num_objects,
        "issues": [f"{one.sample}: {one.reason}" for one in result.issues[:100]],
        "loss": [] if result.loss.is_lossless else result.loss.summary_lines(),
    }


def download(call: ApiCall) -> ApiFile:
    """Download an export."""
    name = call.fields["name"]
    path = call.session.project.folder / "exports" / name
    if not EXPORT_NAME.fullmatch(name) or not path.is_file():
        raise ApiError(404, f"there is no export {name!r:.80}: make one, which returns its name")
    return ApiFile("application/zip", path)


SESSION = "/api/sessions/{session}"
PROMPT = {
    "points": ApiField("points", "Points on the object, or off it."),
    "labels": ApiField("labels", "For each point; without, all are on it."),
    "box": ApiField("box", "A box around the object."),
    "mask": ApiField("mask", "A rough mask of the size of the source."),
    "view": ApiField("box", "The part of the image that the model sees, at its full detail; the rest of a mask stays."),
}
SOURCE = ApiField("integer", "Id of a source.", True)
FRAME = ApiField("integer", "Number of the frame, from 0; 0 is the default.")
OBJECT = ApiField("integer", "Id of an object.", True)
NAME = ApiField("string", "Name; unique where it has to be.")
CLASS = ApiField("integer", "Id of a class.")
RUN = ApiField("integer", "A number: changes with the same one that follow each other are undone together.")
MINE = {"mine": ApiField("boolean", "Only actions of this session's author.")}

ROUTES: tuple[ApiRoute, ...] = (
    ApiRoute("GET", "/api/health", health, "Whether the server answers"),
    ApiRoute("GET", "/api/model", model_info, "The model"),
    ApiRoute("GET", "/api/limits", limits, "The bounds of the server"),
    ApiRoute("GET", "/api/files", places, "Projects, and files that may be sources"),
    ApiRoute("GET", "/metrics", metrics, "Numbers for Prometheus"),
    ApiRoute("GET", "/api/sessions", list_sessions, "The open sessions"),
    ApiRoute(
        "POST",
        "/api/sessions",
        open_session,
        "Open a session on a project",
        {"project": NAME, "author": ApiField("string", "Who sets what this session sets.")},
    ),
    ApiRoute("GET", SESSION, show_session, "A session with sources, classes and objects"),
    ApiRoute("DELETE", SESSION, close_session, "Close a session"),
    ApiRoute("GET", SESSION + "/uploads/{name}", upload_state, "The offset of the next chunk"),
    ApiRoute(
        "PUT",
        SESSION + "/uploads/{name}",
        upload_chunk,
        "Upload a chunk",
        query={"offset": ApiField("integer", "Where the chunk belongs; 0 is the default.")},
        binary=True,
    ),
    ApiRoute(
        "POST",
        SESSION + "/uploads/{name}/finish",
        upload_finish,
        "Add an uploaded file as a source",
        {"sha256": ApiField("string", "Hash of the entire file, which is checked."), "source_name": NAME},
    ),
    ApiRoute("GET", SESSION + "/sources", list_sources, "The sources"),
    ApiRoute(
        "POST",
        SESSION + "/sources",
        add_source,
        "Add a file of the server as a source",
        {"path": ApiField("string", "A path in a folder of the server.", True), "name": NAME},
    ),
    ApiRoute("DELETE", SESSION + "/sources/{source}", delete_source, "Remove a source"),
    ApiRoute(
        "GET",
        SESSION + "/sources/{source}/frames/{frame}",
        frame_image,
        "A frame as an image",
        query={
            "format": ApiField("string", "png (default) or jpeg."),
            "quality": ApiField("integer", "Of JPEG, 1 to 100; 90 is the default."),
        },
    ),
    ApiRoute(
        "POST",
        SESSION + "/classes",
        add_class,
        "Add a class",
        {"name": ApiField("string", "Name.", True), "color": ApiField("string", "#rrggbb.")},
    ),
    ApiRoute(
        "GET", SESSION + "/objects", list_objects, "The objects", query={"source": ApiField("integer", "Of a source.")}
    ),
    ApiRoute(
        "POST",
        SESSION + "/objects",
        add_object,
        "Add an object",
        {"source": SOURCE, "class": CLASS, "name": NAME, "number": ApiField("integer", "Its number in the source.")},
    ),
    ApiRoute(
        "PATCH",
        SESSION + "/objects/{object}",
        change_object,
        "Change an object",
        {
            "name": NAME,
            "class": CLASS,
            "hidden": ApiField("boolean", "Not drawn."),
            "locked": ApiField("boolean", "Takes no prompts and masks."),
        },
    ),
    ApiRoute("DELETE", SESSION + "/objects/{object}", delete_object, "Remove an object"),
    ApiRoute(
        "GET", SESSION + "/prompts", list_prompts, "The prompts of a source", query={"source": SOURCE, "frame": FRAME}
    ),
    ApiRoute(
        "POST",
        SESSION + "/prompts",
        set_prompt,
        "Prompt an object and store its mask",
        {
            "object": ApiField("integer", "Id of an object; without, a new one is added to `source`."),
            "source": ApiField("integer", "Id of a source, for a new object."),
            "class": CLASS,
            "frame": FRAME,
            "run": RUN,
            **PROMPT,
            "threshold": ApiField("number", "Logit above which a pixel is inside; 0 is the default."),
        },
    ),
    ApiRoute(
        "POST",
        SESSION + "/predict",
        predict,
        "Segment by prompts, and store nothing",
        {"source": SOURCE, "frame": FRAME, **PROMPT, "multimask": ApiField("boolean", "Three candidates, best first.")},
    ),
    ApiRoute(
        "POST",
        SESSION + "/everything",
        everything,
        "Segment everything",
        {
            "source": SOURCE,
            "frame": FRAME,
            "preset": ApiField("string", "fast, default or fine."),
            "store": ApiField("boolean", "Make each mask an object."),
        },
    ),
    ApiRoute(
        "GET",
        SESSION + "/masks",
        stored_masks,
        "The stored masks",
        query={
            "source": SOURCE,
            "start": ApiField("integer", "First frame; 0 is the default."),
            "stop": ApiField("integer", "The frame after the last one."),
            "rle": ApiField("boolean", "false: only what is known of the masks, of any number of frames."),
        },
    ),
    ApiRoute(
        "PUT",
        SESSION + "/masks",
        set_mask,
        "Set or remove a mask",
        {
            "object": ApiField("integer", "Id of an object; without, a new one is added to `source`."),
            "source": ApiField("integer", "Id of a source, for a new object."),
            "class": CLASS,
            "frame": FRAME,
            "run": RUN,
            "mask": PROMPT["mask"],
            "state": ApiField("string", "visible, occluded or lost."),
            "score": ApiField("number", "0 to 1."),
            "origin": ApiField("string", "edit (default), click or import."),
        },
    ),
    ApiRoute(
        "POST",
        SESSION + "/verify",
        verify,
        "Mark a mask as checked",
        {"object": OBJECT, "frame": FRAME, "verified": ApiField("boolean", "true is the default.")},
    ),
    ApiRoute(
        "GET",
        SESSION + "/doubts",
        doubts,
        "Frames to check",
        query={"source": SOURCE, "limit": ApiField("integer", "How many, at least 1; 50 is the default.")},
    ),
    ApiRoute(
        "GET",
        SESSION + "/differences",
        differences,
        "Masks that have changed",
        query={"source": SOURCE, "since": ApiField("integer", "A revision.", True)},
    ),
    ApiRoute(
        "POST",
        SESSION + "/swap",
        swap,
        "Exchange two objects from a frame on",
        {
            "first": OBJECT,
            "second": OBJECT,
            "frame": ApiField("integer", "The first frame on which they are exchanged.", True),
        },
    ),
    ApiRoute("POST", SESSION + "/undo", undo, "Undo", MINE),
    ApiRoute("POST", SESSION + "/redo", redo, "Redo", MINE),
    ApiRoute(
        "GET",
        SESSION + "/history",
        history,
        "The last actions",
        query={
            "limit": ApiField("integer", "How many; 100 is the default."),
            "before": ApiField("integer", "Only actions before this number."),
        },
    ),
    ApiRoute(
        "GET",
        SESSION + "/changes",
        changes,
        "What changed after a revision",
        query={"since": ApiField("integer", "A revision.", True)},
    ),
    ApiRoute(
        "POST",
        SESSION + "/export",
        export,
        "Export the project",
        {
            "format": ApiField("string", "A format of masklet convert, or overlay, mots, png or masks.", True),
            "verified_only": ApiField("boolean", "Only what a person has verified."),
        },
    ),
    ApiRoute("GET", SESSION + "/exports/{name}", download, "Download an export"),
)
