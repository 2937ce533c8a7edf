"""The names, files and conventions of other programs: adapters around the image parts, written as ONNX.

anylabeling   NAME.encoder.onnx, NAME.decoder.onnx and config.yaml, and all of them in NAME.zip: samexporter's contract
transformers  onnx/vision_encoder.onnx and onnx/prompt_encoder_mask_decoder.onnx, as transformers.js calls them
onnxruntime   NAME_image_encoder.onnx, NAME_image_decoder.onnx (one mask) and NAME_image_decoder_multi.onnx (three), as
              ONNX Runtime's own SAM 2 tool; of SAM 1 the decoder of the published notebook
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masklet.export.export_manifest import network_arrays
from masklet.export.onnx_graphs import OPSET, save_onnx
from masklet.load_model import LoadedModel
from masklet.models.sam2 import SAM2
from masklet.models.types import PIXEL_MEAN, PIXEL_STD
from masklet.transforms import LOGIT_LIMIT

if TYPE_CHECKING:
    import onnx

__all__ = ["write_layout"]

Models = dict[str, "tuple[onnx.ModelProto, str]"]
"""Models and their roles, by the name of the file."""

FEATURES = ("image_embeddings", "high_res_features_0", "high_res_features_1")
LISTED_HEIGHT = 682
"""Height of an image of 3:2, which AnyLabeling's configuration names beside the width."""

THREE_CANDIDATES = """
adapter (float[N, 4, h4, w4] masks, float[N, 4] iou_scores)
    => (float[N, 3, h4, w4] three_masks, float[N, 3] three_scores)
<int64[1] first = {1}, int64[1] end = {4}, int64[1] axis = {1}>
{
    three_masks = Slice (masks, first, end, axis)
    three_scores = Slice (iou_scores, first, end, axis)
}
"""
STABLE_CANDIDATE = """
adapter (float[N, 4, h4, w4] masks, float[N, 4] iou_scores)
    => (float[N, 1, h4, w4] three_masks, float[N, 1] three_scores)
<int64[1] zero = {0}, int64[1] one = {1}, int64[1] end = {4}, int64[2] pixel_axes = {2, 3},
 float upper = {0.05}, float lower = {-0.05}, float least = {1.0}, float threshold = {STABILITY}>
{
    single = Slice (masks, zero, one, one)
    inside = Greater (single, upper)
    inside_float = Cast <to = 1> (inside)
    inner = ReduceSum <keepdims = 0> (inside_float, pixel_axes)
    around = Greater (single, lower)
    around_float = Cast <to = 1> (around)
    outer = ReduceSum <keepdims = 0> (around_float, pixel_axes)
    divisor = Max (outer, least)
    ratio = Div (inner, divisor)
    empty = Less (outer, least)
    stability = Where (empty, least, ratio)
    stable = GreaterOrEqual (stability, threshold)
    three = Slice (iou_scores, one, end, one)
    best = ArgMax <axis = 1, keepdims = 1> (three)
    best_index = Add (best, one)
    index = Where (stable, zero, best_index)
    mask = GatherND <batch_dims = 1> (masks, index)
    three_masks = Unsqueeze (mask, one)
    score = GatherND <batch_dims = 1> (iou_scores, index)
    three_scores = Unsqueeze (score, one)
}
"""
ORIGINAL_SIZE = """
adapter (float[N, K, h4, w4] three_masks, int32[2] original_image_size)
    => (bool[N, K, height, width] full_masks, float[N, K, h4, w4] low_res_masks)
<int64[1] zero = {0}, int64[1] two = {2}, float threshold = {0}, float low = {-LIMIT}, float high = {LIMIT}>
{
    shape = Shape (three_masks)
    batch = Slice (shape, zero, two)
    size = Cast <to = 7> (original_image_size)
    sizes = Concat <axis = 0> (batch, size)
    full = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (three_masks, , , sizes)
    full_masks = Greater (full, threshold)
    low_res_masks = Clip (three_masks, low, high)
}
"""
SAM1_NOTEBOOK = """
adapter (float[N, 4, h4, w4] masks, float[N, 4] iou_scores, float[N, P, 2] coords, float[2] orig_im_size)
    => (float[N, 1, height, width] full_masks, float[N, 1] iou_predictions, float[N, 1, h4, w4] low_res_masks)
<int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, float[4] first = {1000, 0, 0, 0}, float limit = {2.5},
 int64[2] side = {SIDE, SIDE}, float side_float = {SIDE}, float half = {0.5}, int64[2] zeros = {0, 0},
 int64[2] pixel_axes = {2, 3}>
{
    coords_shape = Shape (coords)
    count = Slice (coords_shape, one, two)
    count_float = Cast <to = 1> (count)
    above = Sub (count_float, limit)
    bonus = Mul (above, first)
    weighted = Add (iou_scores, bonus)
    index = ArgMax <axis = 1, keepdims = 1> (weighted)
    mask = GatherND <batch_dims = 1> (masks, index)
    low_res_masks = Unsqueeze (mask, one)
    score = GatherND <batch_dims = 1> (iou_scores, index)
    iou_predictions = Unsqueeze (score, one)
    shape = Shape (low_res_masks)
    batch = Slice (shape, zero, two)
    square = Concat <axis = 0> (batch, side)
    up = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (low_res_masks, , , square)
    longest = ReduceMax <keepdims = 1> (orig_im_size)
    scale = Div (side_float, longest)
    scaled = Mul (orig_im_size, scale)
    shifted = Add (scaled, half)
    rounded = Floor (shifted)
    valid = Cast <to = 7> (rounded)
    cropped = Slice (up, zeros, valid, pixel_axes)
    size = Cast <to = 7> (orig_im_size)
    sizes = Concat <axis = 0> (batch, size)
    full_masks = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (cropped, , , sizes)
}
"""
SAM1_PIXELS = """
adapter (float[height, width, 3] input_image) => (float[1, 3, SIDE, SIDE] pixels)
<float[3] mean = {MEAN}, float[3] std = {STD}, int64[3] full = {3, SIDE, SIDE}, int64[3] before = {0, 0, 0},
 int64[1] zero = {0}>
{
    centered = Sub (input_image, mean)
    scaled = Div (centered, std)
    planes = Transpose <perm = [2, 0, 1]> (scaled)
    size = Shape (planes)
    after = Sub (full, size)
    pads = Concat <axis = 0> (before, after)
    padded = Pad (planes, pads)
    pixels = Unsqueeze (padded, zero)
}
"""
INT_LABELS = """
adapter (int32[N, P] int_labels) => (float[N, P] point_labels) { point_labels = Cast <to = 1> (int_labels) }
"""
HUB_PROMPTS = """
adapter (float[B, M, Q, 2] input_points, int64[B, N, P] input_labels, float[B, K, 4] input_boxes)
    => (float[N, R, 2] point_coords, float[N, R] point_labels, float[N, 1, CELLS, CELLS] mask_input,
        float[N] has_mask_input)
<int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] three = {3}, int64 padding = {-1},
 float[2] corner_labels = {2, 3}, int64[3] cells = {1, CELLS, CELLS}>
{
    shape = Shape (input_labels)
    count = Slice (shape, one, two)
    points = Slice (shape, two, three)
    points_shape = Concat <axis = 0> (count, points, two)
    xy = Reshape <allowzero = 1> (input_points, points_shape)
    labels_shape = Concat <axis = 0> (count, points)
    flat_labels = Reshape <allowzero = 1> (input_labels, labels_shape)
    known_labels = Max (flat_labels, padding)
    labels = Cast <to = 1> (known_labels)
    boxes_shape = Shape (input_boxes)
    boxes = Slice (boxes_shape, one, two)
    all_corners = Mul (boxes, two)
    corners = Div (all_corners, count)
    corners_shape = Concat <axis = 0> (count, corners, two)
    corner_xy = Reshape <allowzero = 1> (input_boxes, corners_shape)
    used_labels = Slice (corner_labels, zero, corners)
    expanded_shape = Concat <axis = 0> (count, corners)
    expanded_labels = Expand (used_labels, expanded_shape)
    point_coords = Concat <axis = 1> (xy, corner_xy)
    point_labels = Concat <axis = 1> (labels, expanded_labels)
    mask_shape = Concat <axis = 0> (count, cells)
    mask_input = ConstantOfShape (mask_shape)
    has_mask_input = ConstantOfShape (count)
}
"""
HUB_OUTPUTS = """
adapter (float[N, 3, h4, w4] three_masks, float[N, 3] three_scores, float[N, 1] object_scores)
    => (float[B, N, 3, h4, w4] pred_masks, float[B, N, 3] all_scores, float[B, N, 1] object_score_logits)
<int64[1] zero = {0}>
{
    all_scores = Unsqueeze (three_scores, zero)
    pred_masks = Unsqueeze (three_masks, zero)
    object_score_logits = Unsqueeze (object_scores, zero)
}
"""


def _adapter(text: str, like: onnx.ModelProto, **values: object) -> onnx.ModelProto:
    """Parse an adapter, whose words in capitals are replaced by `values`."""
    import onnx

    for name, value in values.items():
        text = text.replace(name, str(value))
    head = f'<ir_version: {like.ir_version}, opset_import: ["" : {OPSET}]>'
    model: onnx.ModelProto = onnx.parser.parse_model(head + text)
    return model


def _rename(model: onnx.ModelProto, names: Mapping[str, str]) -> onnx.ModelProto:
    """Rename values everywhere in a graph, in place."""
    for node in model.graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(name, name) for name in values]
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        value.name = names.get(value.name, value.name)
    return model


def _join(first: onnx.ModelProto, second: onnx.ModelProto, keep: Sequence[str] = ()) -> onnx.ModelProto:
    """Run `second` behind `first`: outputs become the inputs of the same name; `keep` are outputs of `first` that stay.

    Inner names of the adapter, which is the smaller graph, get a prefix.
    """
    import onnx

    adapter = first if len(first.graph.node) < len(second.graph.node) else second
    ends = {value.name for value in (*adapter.graph.input, *adapter.graph.output)}
    inner = {name for node in adapter.graph.node for name in (*node.input, *node.output)} - ends - {""}
    inner |= {value.name for value in adapter.graph.initializer}
    _rename(adapter, {name: f"{adapter.graph.name}{len(first.graph.node)}_{name}" for name in inner})
    merged = onnx.ModelProto()
    merged.CopyFrom(first)
    graph, made = merged.graph, {value.name: value for value in first.graph.output}
    known = {*made, *(value.name for value in first.graph.input)}
    graph.node.extend(second.graph.node)
    graph.initializer.extend(second.graph.initializer)
    graph.value_info.extend(second.graph.value_info)
    graph.input.extend(value for value in second.graph.input if value.name not in known)
    del graph.output[:]
    graph.output.extend([*second.graph.output, *(made[name] for name in keep)])
    return merged


def _order(model: onnx.ModelProto, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> onnx.ModelProto:
    """Give inputs and outputs their public names, in the order of the mappings; drop other outputs."""
    import onnx

    for values, names in ((model.graph.input, inputs), (model.graph.output, outputs)):
        by_name = {value.name: value for value in values}
        ordered = [by_name[name] for name in names]
        del values[:]
        values.extend(ordered)
    names = {**inputs, **outputs}
    hidden = {name: f"inner_{name}" for name in names.values() if name not in names}  # the graph may use them inside
    _rename(model, hidden)
    _rename(model, names)
    onnx.checker.check_model(model)
    return model


def _with_memory_embedding(encoder: onnx.ModelProto, loaded: LoadedModel) -> onnx.ModelProto:
    """Add the embedding of an empty memory to the map of an encoder, as other programs expect it."""
    import numpy as np
    import onnx

    values = network_arrays(loaded.network)["no_memory_embedding"].reshape(1, -1, 1, 1)
    encoder.graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(values), "no_memory_embedding"))
    _rename(encoder, {"image_embeddings": "plain_embeddings"})
    output = next(value for value in encoder.graph.output if value.name == "plain_embeddings")
    output.name = "image_embeddings"
    encoder.graph.node.append(
        onnx.helper.make_node("Add", ["plain_embeddings", "no_memory_embedding"], ["image_embeddings"])
    )
    return encoder


def _sam1_models(layout: str, encoder: onnx.ModelProto, decoder: onnx.ModelProto, name: str, side: int) -> Models:
    """Return the models of SAM 1: the decoder selects one mask, as the published notebook's does."""
    notebook = _adapter(SAM1_NOTEBOOK, decoder, SIDE=side)
    decoder = _join(_rename(decoder, {"point_coords": "coords"}), notebook)
    inputs = {
        "image_embeddings": "image_embeddings",
        "coords": "point_coords",
        **{word: word for word in ("point_labels", "mask_input", "has_mask_input", "orig_im_size")},
    }
    outputs = {"full_masks": "masks", "iou_predictions": "iou_predictions", "low_res_masks": "low_res_masks"}
    decoder = _order(decoder, inputs, outputs)
    embeddings = {"image_embeddings": "image_embeddings"}
    if layout == "onnxruntime":
        encoder = _order(encoder, {"pixels": "image"}, embeddings)
        return {
            f"{name}_image_encoder.onnx": (encoder, "image_encoder"),
            f"{name}_image_decoder.onnx": (decoder, "prompt_decoder"),
        }
    mean, std = (", ".join(str(255 * value) for value in values) for values in (PIXEL_MEAN, PIXEL_STD))
    pixels = _adapter(SAM1_PIXELS, encoder, SIDE=side, MEAN=mean, STD=std)
    encoder = _order(_join(pixels, encoder), {"input_image": "input_image"}, embeddings)
    return {
        f"{name}.encoder.onnx": (encoder, "image_encoder"),
        f"{name}.decoder.onnx": (decoder, "prompt_decoder"),
    }


def _anylabeling_models(encoder: onnx.ModelProto, decoder: onnx.ModelProto, name: str) -> Models:
    """Return the models that samexporter writes of SAM 2; inputs are fed by their order."""
    features = dict(zip(FEATURES, ("image_embed", "high_res_feats_0", "high_res_feats_1"), strict=True))
    finest_first = {word: features[word] for word in (*FEATURES[1:], FEATURES[0])}
    words = ("point_coords", "point_labels", "mask_input", "has_mask_input")
    decoder = _order(
        _join(decoder, _adapter(THREE_CANDIDATES, decoder)),
        features | {word: word for word in words},
        {"three_masks": "masks", "three_scores": "iou_predictions"},
    )
    return {
        f"{name}.encoder.onnx": (_order(encoder, {"pixels": "image"}, finest_first), "image_encoder"),
        f"{name}.decoder.onnx": (decoder, "prompt_decoder"),
    }


def _onnxruntime_models(encoder: onnx.ModelProto, decoder: onnx.ModelProto, name: str, stability: float) -> Models:
    """Return the models of ONNX Runtime's tool: decoders of one mask and of three, at the size of the image."""
    features = {
        "high_res_features_0": "image_features_0",
        "high_res_features_1": "image_features_1",
        "image_embeddings": "image_embeddings",
    }
    inputs = features | {
        "point_coords": "point_coords",
        "int_labels": "point_labels",
        "mask_input": "input_masks",
        "has_mask_input": "has_input_masks",
        "original_image_size": "original_image_size",
    }
    outputs = {"full_masks": "masks", "three_scores": "iou_predictions", "low_res_masks": "low_res_masks"}
    models = {f"{name}_image_encoder.onnx": (_order(encoder, {"pixels": "image"}, features), "image_encoder")}
    for ending, text in (("", STABLE_CANDIDATE), ("_multi", THREE_CANDIDATES)):
        model = _join(decoder, _adapter(text, decoder, STABILITY=stability))
        model = _join(model, _adapter(ORIGINAL_SIZE, decoder, LIMIT=LOGIT_LIMIT), keep=["three_scores"])
        model = _join(_adapter(INT_LABELS, decoder), model)
        models[f"{name}_image_decoder{ending}.onnx"] = (_order(model, inputs, outputs), f"prompt_decoder{ending}")
    return models


def _hub_models(encoder: onnx.ModelProto, decoder: onnx.ModelProto, side: int) -> Models:
    """Return the models that transformers.js runs: points, boxes or both, of which those not given are empty."""
    features = {word: f"image_embeddings.{i}" for i, word in enumerate((*FEATURES[1:], FEATURES[0]))}
    model = _join(decoder, _adapter(THREE_CANDIDATES, decoder), keep=["object_scores"])
    model = _join(model, _adapter(HUB_OUTPUTS, decoder))
    model = _join(_adapter(HUB_PROMPTS, decoder, CELLS=side // 4), model)
    words = ("input_points", "input_labels", "input_boxes")
    outputs = {
        "all_scores": "iou_scores",
        "pred_masks": "pred_masks",
        "object_score_logits": "object_score_logits",
    }
    model = _order(model, {word: word for word in words} | features, outputs)
    return {
        "onnx/vision_encoder.onnx": (_order(encoder, {"pixels": "pixel_values"}, features), "image_encoder"),
        "onnx/prompt_encoder_mask_decoder.onnx": (model, "prompt_decoder"),
    }


def write_layout(layout: str, folder: Path, base: Mapping[str, Path], loaded: LoadedModel) -> list[tuple[Path, str]]:
    """Rewrite the files of the image parts, `base` by name, for another program; returns files and roles."""
    import onnx

    name = loaded.name if loaded.card is None else loaded.card.name
    encoder, decoder = onnx.load(base["image_encoder"]), onnx.load(base["prompt_decoder"])
    for path in base.values():
        for one in (path, path.with_name(f"{path.name}.data")):
            one.unlink(missing_ok=True)
    network, side = loaded.network, loaded.network.still_image_size
    is_sam2, texts = isinstance(network, SAM2), dict[str, str]()
    if is_sam2:
        encoder = _with_memory_embedding(encoder, loaded)
    if not is_sam2:
        models = _sam1_models(layout, encoder, decoder, name, side)
    elif layout == "anylabeling":
        models = _anylabeling_models(encoder, decoder, name)
    elif layout == "onnxruntime":
        models = _onnxruntime_models(encoder, decoder, name, network.stability_threshold)
    else:
        models, texts = _hub_models(encoder, decoder, side), hub_configs(side)
    if layout == "anylabeling":
        values = {
            "type": "segment_anything_2" if is_sam2 else "segment_anything",
            "name": name,
            "display_name": loaded.card.title if loaded.card else name,
            "encoder_model_path": f"{name}.encoder.onnx",
            "decoder_model_path": f"{name}.decoder.onnx",
            "input_size": side,
            "max_width": side,
            "max_height": round(side * LISTED_HEIGHT / 1024),
        }
        texts["config.yaml"] = "".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items())
    written: list[tuple[Path, str]] = []
    for file_name, (model, role) in models.items():
        path = folder / file_name
        path.parent.mkdir(exist_ok=True)
        path, *weights = save_onnx(model, path)
        written += [(path, role), *((one, f"weights of {role}") for one in weights)]
    for file_name, text in texts.items():
        (folder / file_name).write_text(text, encoding="utf-8", newline="\n")
        written.append((folder / file_name, "configuration"))
    if layout == "anylabeling":
        archive = folder / f"{name}.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
            for path, _ in written:
                file.write(path, path.name)
        written.append((archive, "archive"))
    return written


def hub_configs(side: int) -> dict[str, str]:
    """Return the configuration files that transformers.js reads, by name."""
    size = {"height": side, "width": side}
    config = {"model_type": "sam2", "architectures": ["Sam2Model"], "vision_config": {"num_feature_levels": 3}}
    processing: dict[str, Any] = {
        "image_processor_type": "Sam2ImageProcessorFast",
        "processor_class": "Sam2Processor",
        "do_convert_rgb": True,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": list(PIXEL_MEAN),
        "image_std": list(PIXEL_STD),
        "rescale_factor": 1 / 255,
        "resample": 2,
        "size": size,
        "mask_size": {"height": side // 4, "width": side // 4},
    }
    files = {"config.json": config, "preprocessor_config.json": processing}
    return {name: json.dumps(values, indent=2) + "\n" for name, values in files.items()}
