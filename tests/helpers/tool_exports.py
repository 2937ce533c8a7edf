"""Label folders as labeling tools and their exporters write them: one cat and one dog an image, and what is special.

Made from the public descriptions of the formats. Images are 64 x 48.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from masklet.datasets.dataset import Mask
from masklet.masks import rle
from masklet.masks.label_map import davis_palette
from masklet.masks.polygons import Polygon, polygons_to_mask

WIDTH, HEIGHT = 64, 48
CAT = [[8.0, 6.0], [28.0, 6.0], [28.0, 22.0], [8.0, 22.0]]
DOG = [[36.0, 20.0], [56.0, 20.0], [56.0, 40.0], [46.0, 44.0], [36.0, 40.0]]
OUTLINES = {"cat": CAT, "dog": DOG}
Json = dict[str, object]
BOTH = {"cat": 1, "dog": 1}


@dataclass(frozen=True)
class ToolExport:
    """A style: the tool, what is special, how it is made, the objects by class, and those that rules leave out."""

    name: str
    tool: str
    note: str
    data_format: str
    make: Callable[[Path], object]
    counts: Mapping[str, int] = field(default_factory=lambda: dict(BOTH))
    left_out: Mapping[str, int] = field(default_factory=dict)


def mask_of(points: Sequence[Sequence[float]]) -> Mask:
    return polygons_to_mask([Polygon(np.array(points, np.float32))], (HEIGHT, WIDTH))


def write(path: Path, content: object) -> Path:
    """Text as it is, anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    Image.fromarray(np.stack([rows * 4, columns * 3, rows + columns], axis=2).astype(np.uint8)).save(path)
    return path


def png(path: Path, pixels: np.ndarray, *, palette: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    out = Image.fromarray(pixels)
    if palette:
        out.putpalette(davis_palette().tobytes())
    out.save(path)
    return path


def flat(points: Sequence[Sequence[float]]) -> list[float]:
    return [number for point in points for number in point]


def runs(mask: Mask) -> Json:
    """A run-length code as a list of numbers, down the columns."""
    pixels = np.concatenate([[0], mask.T.ravel().astype(np.int8), [2]])
    edges = np.flatnonzero(np.diff(pixels))
    return {"size": [HEIGHT, WIDTH], "counts": np.diff(np.concatenate([[0], edges])).tolist()}


def coco_annotation(number: int, name: str = "cat", image_id: int = 1, **other: object) -> Json:
    mask = mask_of(OUTLINES[name])
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    box = [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]
    record: Json = {"id": number, "image_id": image_id, "category_id": 1 + (name == "dog"), "bbox": box}
    return {**record, "segmentation": [flat(OUTLINES[name])], "area": int(mask.sum()), "iscrowd": 0, **other}


def coco_pair(image_id: int = 1, **other: object) -> list[Json]:
    return [coco_annotation(2 * image_id + (name == "dog"), name, image_id, **other) for name in OUTLINES]


def coco_file(
    path: Path, annotations: Sequence[object], file_names: Sequence[str] = ("a.jpg",), **other: object
) -> Path:
    images = [
        {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT} for number, name in enumerate(file_names, 1)
    ]
    categories = [{"id": 1, "name": "cat", "supercategory": ""}, {"id": 2, "name": "dog", "supercategory": ""}]
    return write(path, {"images": images, "annotations": annotations, "categories": categories, **other})


def cvat_coco(root: Path) -> None:
    image(root / "images/a.jpg")
    attributes = {"occluded": False, "rotation": 0.0}
    licenses = [{"name": "", "id": 0, "url": ""}]
    annotations = coco_pair(attributes=attributes)
    coco_file(root / "annotations/instances_default.json", annotations, licenses=licenses, info={"year": ""})


def cvat_coco_brush(root: Path) -> None:
    """Masks of the brush are codes with iscrowd 1, beside a polygon."""
    image(root / "images/a.jpg")
    brush = coco_annotation(2, "dog", iscrowd=1, segmentation=runs(mask_of(DOG)))
    coco_file(root / "annotations/instances_default.json", [coco_annotation(1), brush, {**brush, "id": 3}])


def cvat_coco_subsets(root: Path) -> None:
    for subset in ("Train", "Validation"):
        image(root / "images" / subset / "a.jpg")
        coco_file(root / f"annotations/instances_{subset}.json", coco_pair())


def cvat_coco_without_images(root: Path) -> None:
    image(root / "a.jpg")
    coco_file(root / "annotations/instances_default.json", coco_pair())


def cvat_coco_keypoints(root: Path) -> None:
    """Skeletons have keypoints and no segmentation."""
    image(root / "images/a.jpg")
    skeleton = coco_annotation(9, segmentation=[], keypoints=[5, 5, 2], num_keypoints=1)
    coco_file(root / "annotations/instances_default.json", [*coco_pair(), skeleton])


def cvat_xml(root: Path, shapes: str, images: Sequence[tuple[str, str]] = (("a.jpg", ""),), kind: str = "task") -> None:
    labels = "".join(
        f"<label><name>{name}</name><color>#ff0000</color><type>any</type><attributes></attributes></label>"
        for name in OUTLINES
    )
    elements = []
    for number, (name, subset) in enumerate(images):
        image(root / "images" / subset / name)
        part = f' subset="{subset}"' if subset else ""
        elements.append(
            f'<image id="{number}" name="{name}"{part} width="{WIDTH}" height="{HEIGHT}">\n{shapes}\n</image>'
        )
    meta = f"<meta><{kind}><id>1</id><labels>{labels}</labels></{kind}><dumped>2024-01-01</dumped></meta>"
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n{meta}\n'
    write(root / "annotations.xml", text + "\n".join(elements) + "\n</annotations>\n")


def cvat_polygon(name: str, **attributes: str) -> str:
    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in OUTLINES[name])
    more = "".join(f' {key}="{value}"' for key, value in attributes.items())
    return (
        f'<polygon label="{name}" source="manual" occluded="0" points="{points}" z_order="0"{more}>'
        f'<attribute name="age">3</attribute></polygon>'
    )


def cvat_mask(name: str) -> str:
    mask = mask_of(OUTLINES[name])
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    crop = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    edges = np.flatnonzero(np.diff(np.concatenate([[0], crop.ravel().astype(np.int8), [2]])))
    counts = np.diff(np.concatenate([[0], edges])).tolist()
    height, width = crop.shape
    box = f'left="{columns[0]}" top="{rows[0]}" width="{width}" height="{height}"'
    return f'<mask label="{name}" source="manual" occluded="0" rle="{", ".join(map(str, counts))}" {box} z_order="0"/>'


POLYGONS = cvat_polygon("cat") + cvat_polygon("dog")
OTHER_SHAPES = "".join(
    f'<{tag} label="cat" source="manual" occluded="0" points="1,1;9,9" xtl="1" ytl="1" xbr="9" ybr="9"/>'
    for tag in ("box", "ellipse", "polyline", "points", "cuboid", "skeleton")
)


def voc_tree(root: Path, object_map: bool = True, colors: bool = False, names: Sequence[str] = ("a",)) -> None:
    """JPEGImages, the two maps and labelmap.txt."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    for number, points in enumerate(OUTLINES.values(), 1):
        labels[mask_of(points)] = number
    kinds = np.array([[0, 0, 0], [250, 50, 83], [51, 221, 255]], np.uint8)
    for name in names:
        image(root / f"JPEGImages/{name}.jpg")
        if colors:
            png(root / f"SegmentationObject/{name}.png", davis_palette()[labels])
            png(root / f"SegmentationClass/{name}.png", kinds[labels])
        elif object_map:
            png(root / f"SegmentationObject/{name}.png", labels, palette=True)
            png(root / f"SegmentationClass/{name}.png", labels, palette=True)
    rows = ["# label:color_rgb:parts:actions", "background:0,0,0::", "cat:250,50,83::", "dog:51,221,255::"]
    write(root / "labelmap.txt", "\n".join(rows) + "\n")


def cvat_segmentation_mask(root: Path) -> None:
    voc_tree(root, colors=True)
    write(root / "ImageSets/Segmentation/default.txt", "a\n")


def voc_xml(names: Sequence[str]) -> str:
    objects = "".join(
        f"<object><name>{name}</name><occluded>0</occluded><bndbox><xmin>8</xmin><ymin>6</ymin><xmax>28</xmax>"
        f"<ymax>22</ymax></bndbox></object>"
        for name in names
    )
    return f"<annotation><folder></folder><filename>a.jpg</filename><segmented>0</segmented>{objects}</annotation>\n"


def cvat_voc(root: Path) -> None:
    """Two images, one of which has boxes only."""
    voc_tree(root)
    write(root / "Annotations/a.xml", voc_xml(["cat", "dog"]))
    image(root / "JPEGImages/b.jpg")
    write(root / "Annotations/b.xml", voc_xml(["cat", "cat", "dog"]))
    write(root / "ImageSets/Main/default.txt", "a\nb\n")


def yolo_line(name: str, class_id: int | None = None, digits: int = 6) -> str:
    numbers = " ".join(f"{x / WIDTH:.{digits}f} {y / HEIGHT:.{digits}f}" for x, y in OUTLINES[name])
    return f"{list(OUTLINES).index(name) if class_id is None else class_id} {numbers}\n"


YOLO_PAIR = yolo_line("cat") + yolo_line("dog")


def cvat_yolo(root: Path, prefix: str = "images/train/") -> None:
    image(root / "images/train/a.jpg")
    write(root / "labels/train/a.txt", YOLO_PAIR)
    write(root / "train.txt", f"{prefix}a.jpg\n")
    write(root / "data.yaml", "names:\n  0: cat\n  1: dog\npath: .\ntrain: train.txt\n")


def cvat_darknet(root: Path) -> None:
    """YOLO 1.1 has boxes only."""
    image(root / "obj_train_data/a.jpg")
    write(root / "obj_train_data/a.txt", "0 0.28 0.29 0.31 0.33\n1 0.71 0.66 0.31 0.5\n")
    write(root / "obj.names", "cat\ndog\n")
    write(root / "obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    write(root / "train.txt", "data/obj_train_data/a.jpg\n")


def label_studio_coco(root: Path, file_name: str, place: str) -> None:
    image(root / place)
    categories = [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
    annotations = [{**one, "category_id": number, "ignore": 0} for number, one in enumerate(coco_pair(0))]
    images = [{"id": 0, "file_name": file_name, "width": WIDTH, "height": HEIGHT}]
    info = {"year": 2024, "version": "1.0", "contributor": "Label Studio"}
    write(root / "result.json", {"images": images, "categories": categories, "annotations": annotations, "info": info})


def label_studio_rectangles(root: Path) -> None:
    """Rectangles have an empty segmentation, beside polygons."""
    image(root / "images/1a2b3c4d-a.jpg")
    annotations = [*coco_pair(), coco_annotation(8, segmentation=[]), coco_annotation(9, "dog", segmentation=[])]
    coco_file(root / "result.json", annotations, ["images/1a2b3c4d-a.jpg"])


def label_studio_yolo(root: Path) -> None:
    image(root / "images/1a2b3c4d-a.jpg")
    write(root / "labels/1a2b3c4d-a.txt", YOLO_PAIR)
    write(root / "classes.txt", "cat\ndog\n")
    write(root / "notes.json", {"categories": [{"id": 0, "name": "cat"}], "info": {"contributor": "Label Studio"}})


def label_studio_brush(root: Path) -> None:
    """A PNG for each brush region, moved into the folder of its image."""
    image(root / "images/a.jpg")
    for number, (name, points) in enumerate(OUTLINES.items()):
        file = root / f"masks/a/task-1-annotation-1-by-1-tag-{name}-{number}.png"
        png(file, mask_of(points).astype(np.uint8) * 255)


def shape(name: str, shape_type: str = "polygon", points: object = None, **other: object) -> Json:
    fields: Json = {"label": name, "points": OUTLINES.get(name) if points is None else points, "group_id": None}
    return {**fields, "description": "", "shape_type": shape_type, "flags": {}, **other}


def labelme_file(root: Path, shapes: Sequence[Json], *, with_image: bool = True, **other: object) -> None:
    if with_image:
        image(root / "a.jpg")
    content: Json = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": "a.jpg", "imageData": None}
    write(root / "a.json", {**content, "imageHeight": HEIGHT, "imageWidth": WIDTH, **other})


def labelme_mask(name: str) -> Json:
    mask = mask_of(OUTLINES[name])
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    stream = io.BytesIO()
    Image.fromarray(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]).save(stream, "PNG")
    corners = [[int(columns[0]), int(rows[0])], [int(columns[-1]), int(rows[-1])]]
    return shape(name, "mask", corners, mask=base64.b64encode(stream.getvalue()).decode())


def labelme_embedded(root: Path) -> None:
    file = image(root / "a.jpg")
    data = base64.b64encode(file.read_bytes()).decode()
    file.unlink()
    labelme_file(root, [shape("cat"), shape("dog")], with_image=False, imageData=data)


def labelme_groups(root: Path) -> None:
    """Two halves of one cat, tied by group_id, and a dog."""
    left, right = [[8, 6], [18, 6], [18, 22], [8, 22]], [[18, 6], [28, 6], [28, 22], [18, 22]]
    parts = [shape("cat", points=points, group_id=1) for points in (left, right)]
    labelme_file(root, [*parts, shape("dog")], flags={"night": False})


def labelme_old(root: Path) -> None:
    old = {"lineColor": [0, 255, 0, 128], "fillColor": [255, 0, 0, 128], "version": "3.16.7"}
    shapes = [{"label": n, "line_color": None, "fill_color": None, "points": p} for n, p in OUTLINES.items()]
    labelme_file(root, shapes, imageHeight=None, imageWidth=None, **old)


def labelme2voc(root: Path) -> None:
    """Masks with class names in class_names.txt, and copies of them as NumPy arrays and for the eye."""
    voc_tree(root)
    (root / "labelmap.txt").unlink()
    write(root / "class_names.txt", "_background_\ncat\ndog")
    for folder in ("SegmentationClassVisualization", "SegmentationObjectVisualization"):
        image(root / folder / "a.jpg")


def labelme2coco(root: Path) -> None:
    image(root / "JPEGImages/a.jpg")
    categories = [
        {"supercategory": None, "id": number, "name": name}
        for number, name in enumerate(("_background_", "cat", "dog"))
    ]
    images = [{"license": 0, "url": None, "file_name": "JPEGImages/a.jpg", "height": HEIGHT, "width": WIDTH, "id": 0}]
    annotations = coco_pair(0)
    write(
        root / "annotations.json",
        {"type": "instances", "images": images, "annotations": annotations, "categories": categories},
    )


def x_anylabeling(root: Path, shapes: Sequence[Json], version: str = "2.4.4") -> None:
    extra = {"score": None, "difficult": False, "attributes": {"color": "red"}, "kie_linking": []}
    labelme_file(root, [{**extra, **one} for one in shapes], version=version, description="", checked=True)


def x_anylabeling_yolo(root: Path) -> None:
    image(root / "images/a.jpg")
    write(root / "labels/a.txt", yolo_line("cat", digits=17) + yolo_line("dog", digits=17))
    write(root / "classes.txt", "cat\ndog")


def roboflow_coco(root: Path, splits: Sequence[str] = ("train", "valid", "test")) -> None:
    """Category 0 is the name of the project, and the supercategory of the others."""
    for split in splits:
        name = f"a_jpg.rf.{split}.jpg"
        image(root / split / name)
        categories = [
            {"id": 0, "name": "animals", "supercategory": "none"},
            *({"id": number, "name": one, "supercategory": "animals"} for number, one in enumerate(OUTLINES, 1)),
        ]
        images = [{"id": 0, "license": 1, "file_name": name, "height": HEIGHT, "width": WIDTH}]
        content = {"images": images, "annotations": coco_pair(0), "categories": categories, "info": {"year": "2024"}}
        write(root / split / "_annotations.coco.json", content)


def roboflow_yolo(root: Path) -> None:
    for split in ("train", "valid", "test"):
        image(root / split / "images/a_jpg.rf.1.jpg")
        write(root / split / "labels/a_jpg.rf.1.txt", YOLO_PAIR.rstrip("\n"))
    folders = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
    write(root / "data.yaml", folders + "\nnc: 2\nnames: ['cat', 'dog']\n\nroboflow:\n  workspace: a\n  version: 1\n")
    write(root / "README.roboflow.txt", "animals\n")


def roboflow_semantic(root: Path) -> None:
    image(root / "train/a.jpg")
    labels = mask_of(CAT).astype(np.uint8) + 2 * mask_of(DOG).astype(np.uint8)
    png(root / "train/a_mask.png", labels)
    write(root / "train/_classes.csv", "Pixel Value, Class\n0, background\n1, cat\n2, dog\n")


def via_coco(root: Path) -> None:
    """The outline is one flat list, and ids are texts."""
    image(root / "a.jpg")
    annotations = [
        {**one, "image_id": "1", "segmentation": flat(OUTLINES[name])}
        for one, name in zip(coco_pair(), OUTLINES, strict=True)
    ]
    coco_file(root / "via_export_coco.json", annotations, licenses=[{"id": 0, "name": "Unknown"}])


def coco_annotator(root: Path) -> None:
    """Dead annotations, stray clicks, keypoints, metadata and areas with a fraction."""
    image(root / "a.jpg")
    extra: Json = {"isbbox": False, "color": "#d63e1f", "metadata": {}, "area": 319.5, "iscrowd": False}
    dead = [
        coco_annotation(7, segmentation=[], **{**extra, "area": 0}),
        coco_annotation(8, segmentation=[[60.0, 40.0]]),
    ]
    points = coco_annotation(9, segmentation=[], keypoints=[3, 4, 2], num_keypoints=1)
    coco_file(root / "animals-1.json", [*coco_pair(**extra), *dead, points])


def coco_annotator_paths(root: Path) -> None:
    image(root / "a.jpg")
    file = coco_file(root / "animals.json", coco_pair(isbbox=True))
    content = json.loads(file.read_text())
    content["images"][0] |= {"dataset_id": 1, "path": "/datasets/animals/a.jpg", "annotated": True, "milliseconds": 9}
    write(file, content)


def supervision_coco(root: Path) -> None:
    """Masks with holes are codes with iscrowd 1."""
    image(root / "images/a.jpg")
    code = rle.encode(mask_of(DOG))
    holed = coco_annotation(3, "dog", iscrowd=1, segmentation={"size": code["size"], "counts": code["counts"]})
    coco_file(root / "annotations.json", [*coco_pair(), holed])


def supervision_yolo(root: Path) -> None:
    """data.yaml has class names and no folders."""
    image(root / "images/a.jpg")
    write(root / "labels/a.txt", yolo_line("cat", digits=5) + yolo_line("dog", digits=5))
    write(root / "data.yaml", "names:\n- cat\n- dog\nnc: 2\n")


def polygon_xml(name: str, shift: float = 1.0) -> str:
    """An object with its outline, counted from 1."""
    corners = enumerate(OUTLINES[name], 1)
    points = "".join(f"<x{n}>{x + shift:.3f}</x{n}><y{n}>{y + shift:.3f}</y{n}>" for n, (x, y) in corners)
    return f"<object><name>{name}</name><bndbox><xmin>9</xmin></bndbox><polygon>{points}</polygon></object>"


def voc_polygons(root: Path, image_folder: str = "images/", xml_folder: str = "annotations/") -> None:
    """Outlines in the XML, and an object that has a box only."""
    image(root / f"{image_folder}a.jpg")
    objects = polygon_xml("cat") + polygon_xml("dog") + "<object><name>cat</name><bndbox/></object>"
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    write(root / f"{xml_folder}a.xml", f"<annotation><filename>a.jpg</filename>{size}{objects}</annotation>")


def pycocotools(root: Path, encode: Callable[[Mask], object], **other: object) -> None:
    image(root / "images/a.png")
    annotations = [
        coco_annotation(number, name, segmentation=encode(mask_of(points)), **other)
        for number, (name, points) in enumerate(OUTLINES.items(), 1)
    ]
    coco_file(root / "annotations/instances_val2017.json", annotations, ["a.png"])


def fiftyone_coco(root: Path) -> None:
    image(root / "data/a.jpg")
    coco_file(root / "labels.json", coco_pair(supercategory="animal"))


TWICE, THRICE = {"cat": 2, "dog": 2}, {"cat": 3, "dog": 3}
PAIR = [shape("cat"), shape("dog")]
FOUR_POINTS = [shape("cat", "rectangle"), shape("dog")]
EXPORTS = (
    ToolExport("cvat-coco", "CVAT", "attributes, licenses", "coco", cvat_coco),
    ToolExport(
        "cvat-coco-brush", "CVAT", "codes with iscrowd 1", "coco", cvat_coco_brush, {"cat": 1}, {"iscrowd": 2}
    ),
    ToolExport("cvat-coco-subsets", "CVAT", "a file for each subset", "coco", cvat_coco_subsets, TWICE),
    ToolExport("cvat-coco-no-images", "CVAT", "images put beside", "coco", cvat_coco_without_images),
    ToolExport(
        "cvat-coco-keypoints", "CVAT", "a skeleton", "coco", cvat_coco_keypoints, BOTH, {"no segmentation": 1}
    ),
    ToolExport("cvat-images", "CVAT", "polygons with attributes", "cvat", lambda root: cvat_xml(root, POLYGONS)),
    ToolExport(
        "cvat-images-masks", "CVAT", "runs of rows, and a tag", "cvat",
        lambda root: cvat_xml(root, f'{cvat_mask("cat")}{cvat_mask("dog")}<tag label="dog" source="manual"/>'),
    ),
    ToolExport(
        "cvat-images-project", "CVAT", "subsets of a project", "cvat",
        lambda root: cvat_xml(root, POLYGONS, [("a.jpg", "Train"), ("a.jpg", "Validation")], "project"), TWICE,
    ),
    ToolExport(
        "cvat-images-shapes", "CVAT", "boxes, ellipses, lines ...", "cvat",
        lambda root: cvat_xml(root, POLYGONS + OTHER_SHAPES), BOTH,
        {"box": 1, "ellipse": 1, "polyline": 1, "points": 1, "cuboid": 1, "skeleton": 1},
    ),
    ToolExport(
        "cvat-images-groups", "CVAT", "parts tied by group_id", "cvat",
        lambda root: cvat_xml(root, 2 * cvat_polygon("cat", group_id="4") + cvat_polygon("dog")),
    ),
    ToolExport("cvat-segmentation-mask", "CVAT", "maps in colors", "voc", cvat_segmentation_mask),
    ToolExport("cvat-voc", "CVAT", "an image with boxes only", "voc", cvat_voc, BOTH, {"box": 3}),
    ToolExport("cvat-yolo", "CVAT", "train is a list", "yolo", cvat_yolo),
    ToolExport("cvat-yolo-data", "CVAT", "list with data/", "yolo", lambda root: cvat_yolo(root, "data/images/train/")),
    ToolExport("cvat-yolo-1.1", "CVAT", "boxes only", "yolo", cvat_darknet, {}, {"box": 2}),
    ToolExport(
        "label-studio-coco", "Label Studio", "images in the export", "coco",
        lambda root: label_studio_coco(root, "images/1a2b3c4d-a.jpg", "images/1a2b3c4d-a.jpg"),
    ),
    ToolExport(
        "label-studio-coco-windows", "Label Studio", "backslashes", "coco",
        lambda root: label_studio_coco(root, "images\\1a2b3c4d-a.jpg", "images/1a2b3c4d-a.jpg"),
    ),
    ToolExport(
        "label-studio-coco-upload", "Label Studio", "path of the server", "coco",
        lambda root: label_studio_coco(root, "/data/upload/3/1a2b3c4d-a.jpg", "images/1a2b3c4d-a.jpg"),
    ),
    ToolExport(
        "label-studio-coco-own-images", "Label Studio", "prefix of the upload", "coco",
        lambda root: label_studio_coco(root, "../../data/upload/3/1a2b3c4d-a.jpg", "images/a.jpg"),
    ),
    ToolExport(
        "label-studio-coco-local", "Label Studio", "local storage", "coco",
        lambda root: label_studio_coco(root, "/data/local-files/?d=photos/zoo/a.jpg", "photos/zoo/a.jpg"),
    ),
    ToolExport(
        "label-studio-coco-rectangles", "Label Studio", "empty segmentation", "coco", label_studio_rectangles, BOTH,
        {"no segmentation": 2},
    ),
    ToolExport("label-studio-yolo", "Label Studio", "classes.txt, notes.json", "yolo", label_studio_yolo),
    ToolExport(
        "label-studio-brush", "Label Studio", "a PNG for each region", "png", label_studio_brush, {"object": 2}
    ),
    ToolExport(
        "labelme-polygons", "LabelMe", "version 5", "labelme", lambda root: labelme_file(root, PAIR)
    ),
    ToolExport(
        "labelme-rectangle-circle", "LabelMe", "two points", "labelme",
        lambda root: labelme_file(
            root, [shape("cat", "rectangle", [[28, 22], [8, 6]]), shape("sun", "circle", [[40, 24], [50, 24]])]
        ),
        {"cat": 1, "sun": 1},
    ),
    ToolExport(
        "labelme-masks", "LabelMe", "PNG in base64", "labelme",
        lambda root: labelme_file(root, [labelme_mask("cat"), labelme_mask("dog")]),
    ),
    ToolExport("labelme-image-data", "LabelMe", "no image file", "labelme", labelme_embedded),
    ToolExport("labelme-groups", "LabelMe", "parts, flags", "labelme", labelme_groups),
    ToolExport("labelme-3", "LabelMe", "version 3, no size", "labelme", labelme_old),
    ToolExport(
        "labelme-lines", "LabelMe", "points and lines", "labelme",
        lambda root: labelme_file(
            root,
            [*PAIR, shape("eye", "point", [[1, 2]]), shape("leash", "linestrip", [[1, 2], [3, 4]])],
        ),
        BOTH, {"point": 1, "line": 1},
    ),
    ToolExport("labelme2voc", "LabelMe", "class_names.txt", "voc", labelme2voc),
    ToolExport("labelme2coco", "LabelMe", "a background category", "coco", labelme2coco),
    ToolExport(
        "x-anylabeling-2", "X-AnyLabeling", "rectangle of 4 points", "labelme",
        lambda root: x_anylabeling(root, FOUR_POINTS),
    ),
    ToolExport(
        "x-anylabeling-rotation", "X-AnyLabeling", "rotated boxes", "labelme",
        lambda root: x_anylabeling(root, [shape("cat", "rotation", direction=1.57), shape("dog", score=0.5)], "3.0.3"),
    ),
    ToolExport(
        "x-anylabeling-chinese", "X-AnyLabeling", "labels in Chinese", "labelme",
        lambda root: x_anylabeling(root, [shape("\u732b", points=CAT), shape("\u72d7", points=DOG)], "3.2.0"),
        {"\u732b": 1, "\u72d7": 1},
    ),
    ToolExport("x-anylabeling-yolo", "X-AnyLabeling", "17 digits", "yolo", x_anylabeling_yolo),
    ToolExport("roboflow-coco", "Roboflow", "train, valid, test; category 0", "coco", roboflow_coco, THRICE),
    ToolExport("roboflow-coco-train", "Roboflow", "one split", "coco", lambda root: roboflow_coco(root, ["train"])),
    ToolExport("roboflow-yolo", "Roboflow", "../train/images", "yolo", roboflow_yolo, THRICE),
    ToolExport("roboflow-semantic", "Roboflow", "a_mask.png", "png", roboflow_semantic, {"object": 2}),
    ToolExport("via-coco", "VIA", "flat outlines", "coco", via_coco),
    ToolExport(
        "coco-annotator", "coco-annotator", "dead annotations", "coco", coco_annotator, BOTH,
        {"no segmentation": 2, "degenerate outline": 1},
    ),
    ToolExport("coco-annotator-paths", "coco-annotator", "isbbox, path", "coco", coco_annotator_paths),
    ToolExport("supervision-coco", "supervision", "a code as a crowd", "coco", supervision_coco, BOTH, {"iscrowd": 1}),
    ToolExport("supervision-yolo", "supervision", "data.yaml of names", "yolo", supervision_yolo),
    ToolExport("supervision-voc", "supervision", "outlines in the XML", "voc", voc_polygons, BOTH, {"box": 1}),
    ToolExport(
        "roboflow-voc", "Roboflow", "the XML beside its image", "voc",
        lambda root: [voc_polygons(root / split, "", "") for split in ("train", "valid")], TWICE, {"box": 2},
    ),
    ToolExport("pycocotools-rle", "pycocotools", "compressed", "coco", lambda root: pycocotools(root, rle.encode)),
    ToolExport("pycocotools-runs", "pycocotools", "lists of runs", "coco", lambda root: pycocotools(root, runs)),
    ToolExport(
        "pycocotools-crowd", "pycocotools", "iscrowd 1", "coco", lambda root: pycocotools(root, runs, iscrowd=1), {},
        {"iscrowd": 2},
    ),
    ToolExport("fiftyone-coco", "FiftyOne", "images in data/", "coco", fiftyone_coco),
)  # fmt: skip
"""All styles; the counts are those of the objects that come through."""
