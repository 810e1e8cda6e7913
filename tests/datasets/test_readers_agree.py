"""Training, evaluation and distillation count the same objects in any file, mistakes and all."""

import json
import logging
import random
from collections import Counter
from pathlib import PureWindowsPath

import numpy as np
import pytest

from igcv3det.datasets.box_labels import read_labels
from igcv3det.datasets.checks import check_record, load_annotations
from igcv3det.datasets.coco import read_coco
from igcv3det.evaluation import CocoEvaluator
from research.mutations import mutate, sound_content

NOT_LEARNED = ("no area", "outside", "too small")


@pytest.fixture
def quiet():
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def objects(image_ids, is_crowd):
    """(objects, crowd regions) by image id."""
    counts = Counter(zip(image_ids.tolist(), is_crowd.tolist(), strict=True))
    return lambda image_id: (counts[image_id, False], counts[image_id, True])


def compare(path):
    try:
        truth = CocoEvaluator(path).ground_truth
    except ValueError:
        for reader in (CocoEvaluator, load_annotations, lambda file: read_labels(file, None)):
            with pytest.raises(ValueError, match=path.name):
                reader(path)
        return
    store, issues = check_record(read_coco(path))
    without_size = {issue.image_id for issue in issues if issue.kind == "bad image size"}
    evaluated, learned = set(truth.images.ids.tolist()), set(store.images.ids.tolist())
    assert learned == evaluated - without_size
    in_evaluation = objects(truth.images.ids[truth.image_rows], truth.is_crowd)
    rows = np.repeat(np.arange(len(store)), np.diff(store.starts))
    in_training = objects(store.images.ids[rows], store.is_crowd)
    not_learned = Counter(issue.image_id for issue in issues if issue.kind in NOT_LEARNED)
    for image_id in learned:
        difference = sum(in_evaluation(image_id)) - sum(in_training(image_id))
        assert difference == not_learned[image_id]
    names = [PureWindowsPath(entry.file_name).name for entry in store.images]
    scores = [] if store.scores is None else store.scores[~np.isnan(store.scores)]
    if len(set(names)) == len(names) and all(0 <= score <= 1 for score in scores):
        labels = read_labels(path, truth.categories)
        for index, name in enumerate(names):
            image_id = int(store.images.ids[index])
            assert len(labels[name].labels) == in_training(image_id)[0]


def test_every_reader_counts_the_same_objects(tmp_path, quiet):
    hypothesis = pytest.importorskip("hypothesis", reason="needs the extra igcv3det[test]")
    strategies = hypothesis.strategies
    path = tmp_path / "mutated.json"

    @hypothesis.settings(max_examples=100, deadline=None, database=None)
    @hypothesis.given(strategies.integers(0, 2**32), strategies.integers(0, 4))
    def run(seed, mistakes):
        draw = random.Random(seed)
        content = sound_content(draw)
        for _ in range(mistakes):
            mutate(content, draw)
        path.write_text(json.dumps(content))
        compare(path)

    run()
