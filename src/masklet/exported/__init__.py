"""Run a folder that `masklet export` wrote, on ONNX Runtime or OpenVINO; PyTorch is not needed.

manifest            what the folder holds: read, and every file checked, before anything of it runs
graphs              names of inputs and outputs of each part, and the seam of a runtime
onnxruntime_engine, openvino_engine, torch_engine    the runtimes, imported when a folder of their format is opened
network             `ExportedNetwork`: the verbs that image predictors and trackers use
open_exported       from a folder to a model
"""

from __future__ import annotations

from masklet.exported.graphs import RuntimeOptions
from masklet.exported.network import ExportedNetwork
from masklet.exported.open_exported import ExportedModel, is_exported_folder, open_exported

__all__ = ["ExportedModel", "ExportedNetwork", "RuntimeOptions", "is_exported_folder", "open_exported"]
