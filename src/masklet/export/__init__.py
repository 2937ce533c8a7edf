"""Export a network as graphs for other runtimes: a folder of graphs, constants and a manifest (docs/export.md).

export_model     from a loaded model to a folder that is complete, or not there at all
graph_parts      the graphs of a network: modules, example inputs, names and axes
image_graphs, video_graphs    the modules that exporters trace
onnx_graphs      ONNX files and their runner
export_parity    every graph beside the network it came from
export_manifest  what the folder holds, and what a runtime needs to know
"""
