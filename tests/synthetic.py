"""A tiny COCO data set of coloured rectangles for all test modules: six images, seeded.

plain.png has two objects, empty.png none, grey.jpg and cmyk.jpg are what they say, turned.jpg is
stored on its side with an EXIF orientation (its annotations are in the frame that a viewer shows),
crowd.png has an object and a crowd region. Category ids are sparse and listed out of order.
"""

import json
from typing import NamedTuple

import numpy as np
from PIL import Image

CATEGORIES = ((90, "blue"), (3, "red"), (7, "green"))
COLOURS = {3: (220, 30, 30), 7: (30, 200, 30), 90: (30, 30, 220)}
BACKGROUND = (128, 128, 128)
# id, file name, width and height as a viewer shows it, categories of the objects
IMAGES = (
    (11, "plain.png", 96, 64, (3, 7)),
    (12, "empty.png", 64, 64, ()),
    (13, "grey.jpg", 80, 64, (90,)),
    (104, "cmyk.jpg", 64, 96, (7,)),
    (105, "turned.jpg", 48, 80, (3,)),
    (206, "crowd.png", 96, 96, (90,)),
)
CROWD = (4, 60, 40, 30)
EXIF_ORIENTATION, TURN_CLOCKWISE = 274, 6


class CocoPaths(NamedTuple):
    root: object
    images: object
    annotations: object
    content: dict

    def rewrite(self, **sections):
        """Writes the content anew, with other sections; returns the file."""
        self.annotations.write_text(json.dumps(self.content | sections))
        return self.annotations


def write_coco(root, split="val2017", seed=0, issues=()):
    """Writes ``root/split`` and ``root/annotations/instances_split.json``.

    ``issues``: kinds of ISSUES to plant. ``content`` is what the annotation file holds.
    """
    rng = np.random.default_rng(seed)
    images = root / split
    images.mkdir(parents=True)
    content = {
        "images": [],
        "annotations": [],
        "categories": [{"id": number, "name": name} for number, name in CATEGORIES],
    }
    for image_id, name, width, height, categories in IMAGES:
        pixels = np.full((height, width, 3), BACKGROUND, dtype=np.uint8)
        content["images"].append(
            {"id": image_id, "file_name": name, "width": width, "height": height}
        )
        for column, category in enumerate(categories):
            box = _rectangle(rng, width // len(categories), height // 2, column)
            _add(content, pixels, image_id, category, box, 0)
        if name.startswith("crowd"):
            _add(content, pixels, image_id, categories[0], CROWD, 1)
        _write_image(images / name, pixels)
    for kind in issues:
        ISSUES[kind](content, images)
    annotations = root / "annotations" / f"instances_{split}.json"
    annotations.parent.mkdir(exist_ok=True)
    annotations.write_text(json.dumps(content))
    return CocoPaths(root, images, annotations, content)


def _rectangle(rng, width, height, column):
    left, top = rng.integers(1, width // 4), rng.integers(1, height // 4)
    wide, high = (
        rng.integers(width // 2, 3 * width // 4),
        rng.integers(height // 2, 3 * height // 4),
    )
    return tuple(int(value) for value in (column * width + left, top, wide, high))


def _add(content, pixels, image_id, category, box, iscrowd):
    left, top, width, height = box
    pixels[top : top + height, left : left + width] = COLOURS[category]
    content["annotations"].append(
        {
            "id": 1000 + len(content["annotations"]),
            "image_id": image_id,
            "category_id": category,
            "bbox": list(box),
            "area": width * height,
            "iscrowd": iscrowd,
            "segmentation": [[left, top, left + width, top, left, top + height]],
        }
    )


def _write_image(path, pixels):
    image = Image.fromarray(pixels)
    if path.stem == "grey":
        image.convert("L").save(path, quality=95)
    elif path.stem == "cmyk":
        image.convert("CMYK").save(path, quality=95)
    elif path.stem == "turned":
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = TURN_CLOCKWISE
        image.transpose(Image.Transpose.ROTATE_90).save(path, quality=95, exif=exif)
    else:
        image.save(path)


def _annotation(**changes):
    def plant(content, images):
        sound = {"image_id": 11, "category_id": 3, "bbox": [1, 1, 20, 20], "iscrowd": 0}
        content["annotations"].append({"id": 5000 + len(content["annotations"])} | sound | changes)

    return plant


def _image(**changes):
    def plant(content, images):
        sound = {"id": 5000 + len(content["images"]), "file_name": "extra.png"}
        content["images"].append(sound | {"width": 96, "height": 64} | changes)

    return plant


def _copy_annotation(content, images):
    content["annotations"].append(dict(content["annotations"][0]))


def _turn_upside_down(content, images):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 3
    with Image.open(images / "plain.png") as image:
        image.load()
    image.save(images / "plain.png", exif=exif)


def _repeat_category_name(content, images):
    content["categories"].append({"id": 91, "name": "red"})


def _cut_off(content, images):
    path = images / "plain.png"
    path.write_bytes(path.read_bytes()[:100])


def _shrink(content, images):
    Image.new("RGB", (10, 10)).save(images / "plain.png")


ISSUES = {
    "bad image entry": _image(id="eleven"),
    "duplicate image id": _image(id=12),
    "duplicate file name": _image(file_name="plain.png"),
    "bad image size": _image(width=None),
    "missing file": _image(file_name="gone.png"),
    "outside folder": _image(file_name="../plain.png"),
    "unreadable file": _cut_off,
    "size mismatch": _shrink,
    "ambiguous orientation": _turn_upside_down,
    "duplicate category name": _repeat_category_name,
    "bad annotation": _annotation(iscrowd=2),
    "duplicate annotation id": _annotation(id=1000),
    "copied annotation": _copy_annotation,
    "unknown image": _annotation(image_id=999),
    "unknown category": _annotation(category_id=4),
    "bad box": _annotation(bbox=[1, 2, 3]),
    "no area": _annotation(bbox=[5, 5, 0, 10]),
    "outside": _annotation(bbox=[200, 5, 10, 10]),
    "clipped": _annotation(bbox=[80, 5, 30, 10]),
    "too small": _annotation(bbox=[5, 5, 0.5, 10]),
}
