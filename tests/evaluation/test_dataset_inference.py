"""A predictor over a data set: every image is shown, and failures cost no other image."""

import pytest
import torch
from coco_files import coco, save_tiny_detector, write_json, write_noise
from fake_cuda import GPUS, gpu

from igcv3det.evaluation import CocoEvaluator
from igcv3det.evaluation.dataset_inference import score_images
from igcv3det.predictor import Predictor


@pytest.fixture
def predictor(tmp_path):
    path = save_tiny_detector(tmp_path / "tiny.safetensors")
    return Predictor.load(path, score_threshold=0.0, detections_per_image=3)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_every_image_is_shown_whatever_the_batch(predictor, tmp_path, batch_size):
    evaluator = CocoEvaluator(
        write_json(tmp_path / "truth.json", coco([4, 2, 9], [])), predictor.categories
    )
    for image_id in (4, 9):
        write_noise(tmp_path / f"{image_id}.png", seed=image_id)
    done = []
    failures = score_images(
        *(predictor, evaluator, tmp_path, [4, 2, 9]), batch_size=batch_size, progress=done.append
    )
    assert len(failures) == 1
    assert "2.png" in failures[0]
    assert (evaluator.added_ids, done[-1]) == ([4, 9], 3)
    results = evaluator.results()
    assert [r["image_id"] for r in results] == [4] * 3 + [9] * 3
    alone = predictor(tmp_path / "9.png")
    assert [r["score"] for r in results[3:]] == pytest.approx(alone.scores.tolist(), abs=1e-6)


@pytest.mark.parametrize("kind", GPUS)
def test_a_gpu_gets_the_figures_of_the_cpu(predictor, tmp_path, kind, monkeypatch):
    write_noise(tmp_path / "4.png")
    found = predictor(tmp_path / "4.png")
    x0, y0, x1, y1 = found.boxes[0].tolist()
    truth = coco([4], [(4, found.category_ids[0], (x0, y0, x1 - x0, y1 - y0))])
    evaluator = CocoEvaluator(write_json(tmp_path / "truth.json", truth), predictor.categories)
    if kind == "fake":
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with gpu(kind):
        path = tmp_path / "tiny.safetensors"
        there = Predictor.load(path, "cuda", score_threshold=0.0, detections_per_image=3)
        assert score_images(there, evaluator, tmp_path, [4]) == []
    assert evaluator.compute()["AP50"] == pytest.approx(1.0)
    scores = [result["score"] for result in evaluator.results()]
    assert scores == pytest.approx(found.scores.tolist(), rel=1e-3)


def test_an_image_of_another_size_than_its_annotations_fails(predictor, tmp_path):
    content = coco([4], [])
    content["images"][0]["height"] = 55
    evaluator = CocoEvaluator(write_json(tmp_path / "truth.json", content), predictor.categories)
    write_noise(tmp_path / "4.png")
    (failure,) = score_images(predictor, evaluator, tmp_path, [4])
    assert "height 55" in failure
    assert evaluator.image_count == 0
