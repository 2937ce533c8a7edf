"""Networks: SAM 1, SAM 2 and YOLOv8 with the parts they share, and faster second implementations in `fast_cpu`."""
