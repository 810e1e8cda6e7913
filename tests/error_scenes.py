"""Detections with every type of error, for comparisons with tidecv."""

import numpy as np
from coco_files import coco

CLASSES = (1, 3, 7)


def error_scene(seed, images=20, crowds=True):
    """COCO annotations and results; all classes have objects, and no two scores are equal."""
    random = np.random.default_rng(seed)
    annotations, results = [], []
    for image_id in range(1, images + 1):
        for _ in range(random.integers(0, 6)):
            x, y = random.uniform(0, 150), random.uniform(0, 60)
            box = [x, y, random.uniform(8, 60), random.uniform(8, 50)]
            category_id = int(random.choice(CLASSES))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category_id,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(crowds and random.random() < 0.15),
                }
            )
            for _ in range(random.integers(0, 4)):
                spread = random.choice([1, 5, 15])
                moved = np.array(box) + random.normal(0, spread, 4)
                seen_as = category_id if random.random() < 0.7 else int(random.choice(CLASSES))
                results.append(_result(image_id, seen_as, moved.clip(1).tolist(), random))
        for _ in range(random.integers(0, 3)):
            box = random.uniform(5, 80, 4).tolist()
            results.append(_result(image_id, int(random.choice(CLASSES)), box, random))
    return coco(range(1, images + 1), annotations), results


def _result(image_id, category_id, box, random):
    score = float(random.random())
    return {"image_id": image_id, "category_id": category_id, "bbox": box, "score": score}
