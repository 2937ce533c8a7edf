"""The napari plugin without a window: the manifest, and functions from layers to layer data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from masklet import SAM
from masklet.errors import InputError
from masklet.image.automatic_mask_generator import preset

pytest.importorskip("npe2")
pytest.importorskip("napari")
import npe2
from napari import layers

from masklet.connectors.napari_widgets import (
    prompts_from_layers,
    read_slice,
    segment_image,
    segment_volume,
    track_time_series,
)


def points(*places: tuple[float, ...], **options: Any) -> Any:
    return layers.Points(np.array(places, float), **options)


def rectangle(*corners: tuple[float, ...], **options: Any) -> Any:
    return layers.Shapes([np.array(corners, float)], shape_type="rectangle", **options)


def test_the_manifest_is_valid_and_names_functions() -> None:
    manifest = npe2.PluginManifest.from_distribution("masklet")
    manifest.validate_imports()
    assert manifest.name == "masklet"
    assert [widget.display_name for widget in manifest.contributions.widgets] == [
        "Segment an image",
        "Track through a time series",
        "Segment a volume",
    ]
    assert {command.id for command in manifest.contributions.commands} == {
        widget.command for widget in manifest.contributions.widgets
    }


def test_npe2_draws_widgets_that_call_the_functions(square: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    try:
        from qtpy.QtWidgets import QApplication
    except ImportError as error:  # qtpy raises its own kind without a binding
        pytest.skip(f"no Qt here: {error}")
    app = QApplication.instance() or QApplication([])
    manager = npe2.PluginManager.instance()
    manager.discover()
    contributions = [one for one in manager.iter_widgets() if one.command.startswith("masklet.")]
    assert len(contributions) == 3
    for contribution in contributions:
        widget = contribution.get_callable()()
        assert {name: type(widget[name]).__name__ for name in ("image", "points", "background", "boxes", "model")} == {
            **dict.fromkeys(("image", "points", "background", "boxes"), "ComboBox"),
            "model": "LineEdit",
        }
    widget = contributions[0].get_callable()()
    image, click = layers.Image(square, rgb=True, name="photo"), points((27, 22), name="click")
    widget.image.choices, widget.points.choices = [image], [click]
    widget.points.value = click
    data, options, kind = widget()
    assert (data[27, 22], options["name"], kind) == (1, "photo objects", "labels")
    assert app is not None


def test_one_click_on_a_pixel_is_a_click_on_its_center(square: np.ndarray) -> None:
    image = layers.Image(square[..., 0], scale=(2, 4), translate=(10, -3))
    click = points((10 + 2 * 27, -3 + 4 * 22))  # another scale than that of the image
    box = rectangle((15, 10), (15, 34), (39, 34), (39, 10), scale=(2, 4), translate=(10, -3))
    [prompt] = prompts_from_layers(image, click, None, box)[0].values()
    assert prompt.points.xy.tolist() == [[22.5, 27.5]]
    assert prompt.box.xyxy.tolist() == [10.5, 15.5, 34.5, 39.5]


def test_objects_are_numbered_and_background_holds_for_all() -> None:
    image = layers.Image(np.zeros((4, 40, 50), np.uint8))
    on = points((1, 5, 5), (1, 9, 9), (3, 5, 5), features={"object": [1, 7, 1]})
    off = points((1, 30, 30), (1, 20, 20), features={"object": [7, 1]})
    prompts = prompts_from_layers(image, on, off, None)
    assert {where: list(objects) for where, objects in prompts.items()} == {1: [1, 7], 3: [1]}
    assert prompts[1][7].points.xy.tolist() == [[9.5, 9.5], [30.5, 30.5]]
    assert prompts[1][7].points.labels.tolist() == [1, 0]
    everywhere = prompts_from_layers(image, on, points((1, 30, 30)), None)
    assert [len(one.points) for one in everywhere[1].values()] == [2, 2]


def test_an_image_is_segmented_where_it_lies(square: np.ndarray) -> None:
    image = layers.Image(square, rgb=True, name="photo", scale=(2, 2), translate=(5, 7))
    click = points((27, 22), scale=(2, 2), translate=(5, 7))
    data, options, kind = segment_image(image, click)
    made = layers.Layer.create(data, options, kind)
    assert made.name == "photo objects"
    assert made.data.shape == (64, 96)
    assert made.data[27, 22] == 1
    assert made.data[60, 90] == 0
    assert made.data_to_world((27, 22)) == image.data_to_world((27, 22))


def test_each_box_is_an_object(square: np.ndarray) -> None:
    image = layers.Image(square, rgb=True)
    boxes = layers.Shapes(
        [np.array([(15, 10), (15, 34), (39, 34), (39, 10)]), np.array([(10, 50), (10, 90), (60, 90), (60, 50)])],
        shape_type="rectangle",
    )
    data, _, _ = segment_image(image, None, None, boxes)
    assert set(np.unique(data)) == {0, 1, 2}
    assert data[27, 22] == 1


def test_without_prompts_everything_is_labeled(
    square: np.ndarray, small_sam: SAM, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, fast = SAM.__call__, preset(small_sam.predictor.model, "fast")
    monkeypatch.setattr(SAM, "__call__", lambda sam, source: call(sam, source, everything=fast))
    data, _, _ = segment_image(layers.Image(square, rgb=True))
    results = call(small_sam, square, everything=fast)[0]
    assert (data[17:38, 12:33] > 0).mean() > 0.9
    for number in np.unique(data[data > 0]):
        assert results.masks.data[number - 1][data == number].all()


def test_a_time_series_and_a_volume_are_tracked(small_video: np.ndarray, small_sam: SAM) -> None:
    gray = small_video[..., 0].astype(np.uint16) * 16  # as a microscope's 12 bits
    image = layers.Image(gray, contrast_limits=(0, 255 * 16), scale=(5, 1, 1))
    click = points((3, 27, 31), scale=(5, 1, 1))
    data, options, kind = track_time_series(image, click)
    assert (data.shape, data.dtype, kind) == ((10, 64, 96), np.int32, "labels")
    assert not data[:3].any()
    assert all(data[number, 27, 22 + 3 * number] == 1 for number in range(3, 10))
    assert options["scale"].tolist() == [5, 1, 1]
    volume, _, _ = segment_volume(image, click)
    assert all(volume[number, 27, 22 + 3 * number] == 1 for number in range(10))
    rgb = np.stack([read_slice(image, (number,)) for number in range(10)])
    assert np.array_equal(rgb, np.repeat(small_video[..., :1], 3, axis=3))
    with small_sam.session(rgb) as session:
        session.add_prompt(1, 3, points=[31.5, 27.5])
        expected = {results.frame_idx: results.masks.data[0] for results in session.propagate(bidirectional=True)}
    assert all(np.array_equal(volume[number] == 1, expected[number]) for number in range(10))


def test_layers_that_do_not_fit_are_errors(small_video: np.ndarray) -> None:
    volume, plane = layers.Image(small_video[..., 0]), layers.Image(small_video[0, ..., 0])
    with pytest.raises(InputError, match="3 dimensions, and this takes 2"):
        segment_image(volume)
    with pytest.raises(InputError, match="takes 3"):
        track_time_series(plane, points((27, 22)))
    with pytest.raises(InputError, match="no prompt"):
        segment_volume(volume)
    with pytest.raises(InputError, match="make the layer while the image is selected"):
        segment_volume(volume, points((27, 22)))
