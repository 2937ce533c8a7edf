"""masklet as the engine of labeling tools and viewers: each connector speaks the interface of one host.

cvat_detection     CVAT: detections as masks, polygons or rectangles
cvat_interaction   CVAT: clicks and boxes on an image
cvat_tracking      CVAT: shapes tracked through a task
label_studio       Label Studio ML backend: brush masks on images, rectangles through videos
fiftyone_model     FiftyOne: a model for `apply_model`
napari_widgets     napari: images, time series and volumes (`napari.yaml` is the manifest)

These modules translate requests and answers and have no logic besides; `host_requests` holds what they share. The
model is that of the argument `model`, else of the environment variable MASKLET_MODEL, else the built-in one.
"""
