"""The tables of equivalents in docs/compat.md: each row is run on a layer and on masklet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import masklet
from helpers.known_models import photograph
from helpers.yolo_files import network, save
from helpers.yolo_stub import loaded
from masklet.compat import transformers
from masklet.compat.sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
from masklet.compat.sam2.build_sam import build_sam2, build_sam2_camera_predictor, build_sam2_video_predictor
from masklet.compat.sam2.sam2_image_predictor import SAM2ImagePredictor
from masklet.compat.ultralytics import YOLO
from masklet.detect.yolo import YOLODetector
from masklet.media import Frame
from masklet.video import Detection
from masklet.video.auto_tracker import AutoTracker

PAGE = Path(__file__).parents[2] / "docs" / "compat.md"
Row = tuple[str, str]
SAM2_IMAGES: list[Row] = [
    ("predictor.predict(box=box, multimask_output=False)", "sam(rgb, bboxes=box)"),
    ("predictor.predict(point_coords=[[150, 120]], point_labels=[1])", "sam(rgb, points=[150, 120], multimask=True)"),
    ("predictor.predict(box=box, mask_input=logits[:1])", "sam(rgb, bboxes=box, logits=r.logits)"),
    ("predictor.predict_batch(box_batch=[box, box])", "sam([rgb, rgb], bboxes=box)"),
    ("generator.generate(rgb)", 'sam(rgb, everything="fast")'),
]
SAM2_VIDEOS: list[Row] = [
    ("video.init_state(frames)", 'sam.session(frames, retain="all")'),
    ("video.add_new_points_or_box(state, 0, 1, box=near)", "s.add_prompt(1, 0, box=near)"),
    ("video.add_new_mask(state, 0, 2, mask)", "s.add_prompt(2, 0, mask=mask)"),
    ("list(video.propagate_in_video(state))", "list(s.propagate())"),
    ("list(video.propagate_in_video(state, 2, reverse=True))", "list(s.propagate(2, reverse=True))"),
    ("video.clear_all_prompts_in_frame(state, 0, 2)", "s.clear_prompts(2, 0)"),
    ("video.remove_object(state, 2)", "s.remove_object(2)"),
    ("camera.load_first_frame(frames[0])", "live.step(frames[0])"),
    ("camera.add_new_prompt(0, 1, bbox=near)", "live.add_prompt(1, box=near)"),
    ("camera.track(frames[1])", "live.step(frames[1])"),
]
TRANSFORMERS: list[Row] = [
    ("model(**inputs).pred_masks", "sam(rgb, bboxes=box)[0].logits"),
    ("model(**inputs, multimask_output=False).iou_scores", "sam(rgb, bboxes=box)[0].scores"),
    ('processor.post_process_masks(outputs.pred_masks, inputs["original_sizes"])', "r.masks.data"),
    ("generator(image, points_per_crop=8)", 'sam(rgb, everything="fast")'),
    ("videos.init_video_session(video=frames)", 'sam.session(frames, retain="all")'),
    ("videos.add_inputs_to_inference_session(session, 0, 1, input_boxes=[[near]])", "s.add_prompt(1, 0, box=near)"),
    ("video_model(session, frame_idx=0)", "s.results_at(0)"),
    ("list(video_model.propagate_in_video_iterator(session))", "list(s.propagate())"),
    ("session.reset_inference_session()", "s.remove_object(1)"),
    ("video_model(stream, frame=pixels[0])", "live.step(frames[0])"),
]
DETECTORS: list[Row] = [
    ("yolo.track(bgr_frames)", 'list(sam.track(bgr_frames, detector=detector, channels="bgr"))'),
    ("yolo.track(bgr_frames, stream=True)", 'sam.track(bgr_frames, detector=detector, channels="bgr")'),
    ("yolo.track(bgr_frames[0], persist=True)", "tracker.step(frame)"),
    ('yolo.track(bgr_frames, tracker="builtin")', "masklet.SAM().track(bgr_frames, detector=detector)"),
    ("tracked.boxes.id.int().tolist()", "t.ids.tolist()"),
    ("tracked.boxes.is_track", "len(t.ids) > 0"),
    ('tracked.summary()[0]["track_id"]', "int(t.ids[0])"),
]
TABLES = {"sam2 on images": SAM2_IMAGES, "sam2 on videos": SAM2_VIDEOS, "transformers": TRANSFORMERS}
TABLES["detectors"] = DETECTORS


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory, small_video: np.ndarray) -> dict[str, Any]:
    """What the rows use."""
    sam, box, near, frames = masklet.SAM(device="cpu"), [100, 60, 220, 180], [10, 15, 35, 40], list(small_video[:4])
    image = Image.open(photograph(tmp_path_factory.mktemp("equivalents") / "dog.png"))
    rgb, mask = np.array(image), np.pad(np.ones((20, 20), bool), ((5, 39), (60, 16)))
    sam2 = build_sam2(None, "builtin", device="cpu")
    predictor = SAM2ImagePredictor(sam2)
    predictor.set_image_batch([rgb, rgb])
    batch = predictor._batch
    predictor.set_image(rgb)
    predictor._batch = batch
    video = build_sam2_video_predictor(None, "builtin", device="cpu")
    model = transformers.Sam2Model.from_pretrained("builtin")
    processor = transformers.Sam2Processor(model.network.still_image_size)
    videos, video_model = transformers.Sam2VideoProcessor(256), transformers.Sam2VideoModel(model.native)
    inputs = processor(images=image, input_boxes=[[box]])
    stream = videos.init_video_session()
    videos.add_inputs_to_inference_session(stream, 0, 1, input_boxes=[[near]], original_size=(64, 96))
    yolo = YOLO(save(tmp_path_factory.mktemp("yolo") / "mine.pt", network()))
    yolo.native.detector = YOLODetector(loaded(), rle_masks=False)

    def detector(rgb: np.ndarray) -> list[Detection]:
        found = yolo.native(rgb)[0]
        return [Detection(float(found.scores[i]), mask=found.masks.data[i]) for i in range(len(found))]

    colors = np.full((2, 100, 200, 3), 20, np.uint8)
    colors[:, 30:70, 30:90] = (0, 0, 255)
    frame = Frame(colors[0, ..., ::-1].copy(), "red", 0)
    options = {"points_per_side": 8, "pred_iou_thresh": 0.2, "stability_score_thresh": 0.05}
    return {
        "masklet": masklet, "sam": sam, "box": box, "near": near, "rgb": rgb, "image": image, "mask": mask,
        "frames": frames, "predictor": predictor, "logits": predictor.predict(box=box, multimask_output=False)[2],
        "r": sam(rgb, bboxes=box)[0], "generator": SAM2AutomaticMaskGenerator(sam2, **options),
        "video": video, "state": video.init_state(frames), "s": sam.session(frames, retain="all"),
        "camera": build_sam2_camera_predictor(None, "builtin", device="cpu"), "live": sam.live(),
        "model": model, "processor": processor, "inputs": inputs, "outputs": model(**inputs),
        "videos": videos, "video_model": video_model, "session": videos.init_video_session(video=frames),
        "stream": stream, "pixels": videos(images=frames[0]).pixel_values,
        "yolo": yolo, "detector": detector, "bgr_frames": list(colors), "tracked": yolo.track(list(colors))[1],
        "tracker": AutoTracker(sam.live().tracker.network, detector), "frame": frame,
        "t": list(sam.track(list(colors), detector=detector, channels="bgr"))[1],
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_each_row_works_in_order(table: str, variables: dict[str, Any]) -> None:
    given = dict(variables)
    if table == "transformers":
        given["generator"] = transformers.pipeline("mask-generation", model=given["model"], pred_iou_thresh=0.2,
                                                   stability_score_thresh=0.05)  # fmt: skip
        given["s"], given["live"] = given["sam"].session(given["frames"], retain="all"), given["sam"].live()
    for theirs, mine in TABLES[table]:
        for code in (theirs, mine):
            try:
                eval(code, given)
            except Exception as error:
                raise AssertionError(f"{code}: {error}") from error


@pytest.mark.slow
def test_the_objects_are_the_same(variables: dict[str, Any]) -> None:
    (mask,), _, _ = eval(SAM2_IMAGES[0][0], dict(variables))
    native = variables["r"].masks.data[0]
    assert np.count_nonzero((mask > 0) & native) / np.count_nonzero((mask > 0) | native) > 0.97  # edges are refined
    (scaled,) = eval(TRANSFORMERS[2][0], dict(variables))
    best = scaled[0, int(variables["outputs"].iou_scores[0, 0].argmax())].numpy()
    assert np.count_nonzero(best & native) / np.count_nonzero(best | native) > 0.9
    assert eval(DETECTORS[4][0], dict(variables)) == eval(DETECTORS[4][1], dict(variables)) == [1]


@pytest.mark.parametrize("table", TABLES)
def test_the_page_has_the_table(table: str) -> None:
    rows = [f"| `{theirs}` | `{mine}` |" for theirs, mine in TABLES[table]]
    assert "\n".join(rows) in PAGE.read_text()
