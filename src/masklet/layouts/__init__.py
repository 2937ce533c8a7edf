"""Writing labelled data sets: YOLO, COCO, LabelMe, DAVIS, Pascal VOC, CVAT."""
