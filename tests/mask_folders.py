"""Data sets of images and masks: rectangles of one colour for each class."""

import numpy as np
import PIL.Image

COLOURS = np.array([[40, 160, 40], [200, 40, 40], [40, 40, 200], [90, 90, 90]], np.uint8)
VOID = 9  # a label of no class, along the top edge


def draw_mask(rng, size=(24, 32)):
    """[H, W] uint8: class 1 in a rectangle, class 2 at the bottom, VOID in the first row."""
    mask = np.zeros(size, np.uint8)
    top, left = rng.integers(1, 8, 2)
    mask[top : top + 10, left : left + 12] = 1
    mask[-5:] = 2
    mask[0] = VOID
    return mask


def draw_image(mask):
    """[H, W, 3] uint8, one colour a class."""
    return COLOURS[np.minimum(mask, 3)]


def write_masks(root, splits=None, size=(24, 32)):
    """root/SPLIT/N.png beside root/SPLIT_labels/N.png."""
    rng = np.random.default_rng(0)
    for split, number in (splits or {"train": 6, "val": 3}).items():
        for folder in (root / split, root / f"{split}_labels"):
            folder.mkdir(parents=True)
        for index in range(number):
            mask = draw_mask(rng, size)
            PIL.Image.fromarray(draw_image(mask)).save(root / split / f"{index}.png")
            PIL.Image.fromarray(mask).save(root / f"{split}_labels" / f"{index}.png")
    return root


def write_voc(root):
    """Pascal VOC's layout, with palette masks whose void is 255."""
    rng = np.random.default_rng(0)
    folders = "JPEGImages", "SegmentationClass", "ImageSets/Segmentation"
    for folder in folders:
        (root / folder).mkdir(parents=True)
    for split, names in (("train", "ab"), ("val", "c")):
        (root / folders[2] / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            mask = draw_mask(rng)
            PIL.Image.fromarray(draw_image(mask)).save(root / folders[0] / f"{name}.jpg")
            mask[mask == VOID] = 255
            paletted = PIL.Image.fromarray(mask, "P")
            paletted.putpalette(np.random.default_rng(1).integers(0, 256, 768).tolist())
            paletted.save(root / folders[1] / f"{name}.png")
    return root
