"""Export a network as graphs for other runtimes: a folder of graphs, constants and a manifest (docs/export.md).

export_model     from a loaded model to a folder that is complete, or not there at all
graph_parts      the graphs of a network: modules, example inputs, names and axes
image_graphs, video_graphs    the modules that exporters trace
graph_files      the parts as files of one format and precision
onnx_graphs, openvino_graphs, torch_graphs    each format: write a file, run it
reduced_precision, onnx_quantization    fp16, bf16 and int8, and which parts may have them
onnx_layouts     names and conventions of other programs
export_parity    every graph beside the network it came from
export_manifest  what the folder holds, and what a runtime needs to know
"""
