"""Figures, numbers and report of an evaluation."""

import json
import re
from html.parser import HTMLParser

import pytest
from coco_files import THREE, coco, write_json, write_noise

pytest.importorskip("matplotlib")

from igcv3det.datasets.image_files import ImageFolder
from igcv3det.evaluation import CocoEvaluator
from igcv3det.io.images import read_image
from igcv3det.plots.folder import require_new_folder, write_plots
from igcv3det.structures import Categories

FIGURES = {"pr_curves", "f1_curves", "class_curves", "confusion_matrix", "error_types"}


def write(tmp_path, categories=THREE, found=((1, 0.9),), images=True, damage=lambda: None):
    """The plots of an object that is found, one that is not, and one of another class."""
    first, second, _ = categories.ids
    objects = [
        (5, first, (0, 0, 50, 50)),
        (5, first, (100, 0, 50, 50)),
        (6, second, (9, 9, 50, 50)),
    ]
    truth = coco([5, 6], objects, categories)
    for image_id in (5, 6):
        write_noise(tmp_path / f"{image_id}.png", seed=image_id)
    damage()
    evaluator = CocoEvaluator(write_json(tmp_path / "truth.json", truth))
    evaluator.update_results(
        [
            {"image_id": 5, "category_id": number, "bbox": [0, 0, 50, 50], "score": score}
            for number, score in found
        ]
    )
    metrics = evaluator.compute()
    folder = tmp_path / "plots"
    title = "a <model> & a data set"
    opened = ImageFolder(tmp_path) if images else None
    return folder, write_plots(folder, evaluator.analyse(), metrics, title, opened)


class Page(HTMLParser):
    """What a page loads, its tags and its text."""

    def __init__(self, text):
        super().__init__()
        self.loaded, self.tags, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loaded += [value for name, value in attrs if name in {"src", "href", "srcset"}]

    def handle_data(self, data):
        self.text += data


def test_numbers_and_images(tmp_path):
    folder, files = write(tmp_path)
    assert {file.stem for file in files} == FIGURES | {"worst_1", "worst_2"}
    assert all(read_image(file).ndim == 3 for file in files)
    numbers = json.loads((folder / "plots.json").read_text())
    assert numbers["metrics"]["AP50"] == numbers["all"]["AP50"] == pytest.approx(51 / 101 / 2)
    assert (numbers["iou_threshold"], numbers["score_threshold"]) == (0.5, 0.9)
    assert numbers["confusion"]["counts"] == [[1, 0, 0, 1], [0, 0, 0, 1], *[[0] * 4] * 2]
    assert numbers["confusion"]["names"] == ["cat", "dog", "zebra", "background"]
    assert numbers["classes"][0]["best"]["threshold"] == 0.9
    assert numbers["classes"][2]["AP50"] is None
    assert len(numbers["classes"][0]["f1_at"]) == len(numbers["thresholds"])
    assert numbers["error_types"]["types"]["missed"]["count"] == 2
    worst = numbers["images_with_errors"][0]
    assert (worst["file"], worst["missed"], worst["drawn"]) == ("5.png", 1, "worst_1.png")
    assert read_image(folder / "worst_1.png").shape == (100, 2 * 200 + 4, 3)


def test_the_report_loads_nothing_and_shows_names_as_they_are(tmp_path):
    names = Categories((1, 3, 7), ("<script>alert(1)</script>", "a$b$", "猫"))
    folder, files = write(tmp_path, names)
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert len(page.loaded) == len(files)
    assert all(re.match(r"data:image/(png|jpeg);base64,", source) for source in page.loaded)
    assert "script" not in page.tags
    for text in ("a <model> & a data set", *names.names, "5.png: 0 false positives, 1 missed"):
        assert text in page.text


def test_without_detections_and_images(tmp_path):
    folder, files = write(tmp_path, found=(), images=False)
    assert {file.stem for file in files} == FIGURES
    text = Page((folder / "report.html").read_text(encoding="utf-8")).text
    assert "No detection is right." in text
    assert "2 images have errors; no images were given to draw them." in text


def test_an_image_that_cannot_be_drawn_is_named_once(tmp_path, caplog):
    def damage():
        (tmp_path / "5.png").unlink()
        (tmp_path / "6.png").write_bytes(b"damaged")

    folder, files = write(tmp_path, damage=damage)
    assert {file.stem for file in files} == FIGURES
    assert not list(folder.glob("worst_*"))
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(lines) == 2
    for name, line in zip(("5.png", "6.png"), lines, strict=True):
        assert line.startswith("not drawn among the images with the most errors: ")
        assert str(tmp_path / name) in line


def test_images_of_an_earlier_call_go(tmp_path):
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "worst_8.png").write_bytes(b"old")
    (tmp_path / "plots" / "mine.png").write_bytes(b"kept")
    folder, _ = write(tmp_path)
    assert not (folder / "worst_8.png").exists()
    assert (folder / "mine.png").exists()


def test_folders_that_hold_something_are_refused(tmp_path):
    require_new_folder(tmp_path / "new")
    require_new_folder(tmp_path)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(OSError, match="is not empty; name a new folder"):
        require_new_folder(tmp_path)
    with pytest.raises(OSError, match="file: is a file"):
        require_new_folder(file)
