"""The 80 classes of COCO's detection task, with the sparse ids of its annotation files."""

from igcv3det.datasets.coco_names import COCO_NAMES
from igcv3det.structures import Categories

UNUSED_IDS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
COCO_CATEGORIES = Categories(tuple(i for i in range(1, 91) if i not in UNUSED_IDS), COCO_NAMES)
