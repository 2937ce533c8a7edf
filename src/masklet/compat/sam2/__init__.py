"""The interface of sam2: change `from sam2.build_sam import ...` to `from masklet.compat.sam2.build_sam import ...`.

build_sam                   builders by config name and checkpoint
sam2_image_predictor        SAM2ImagePredictor
sam2_video_predictor        SAM2VideoPredictor
sam2_camera_predictor       SAM2CameraPredictor, of segment-anything-2-real-time
automatic_mask_generator    SAM2AutomaticMaskGenerator

Written from the public names of facebookresearch/sam2 1.1; docs/compat.md lists what differs.
"""
