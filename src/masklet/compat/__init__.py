"""The interfaces of other libraries over masklet: code written for one of them runs when its import is changed.

ultralytics         SAM, YOLO, FastSAM, their predictors and results
sam2                image and video predictors, mask generator, builders
segment_anything    the same for the first SAM
transformers        models and processors of images

These rooms translate arguments and results and have no logic besides. What they cannot do is an error that names the
way of masklet itself. Names, defaults and shapes are those of the other library, also where masklet's own differ.
"""
