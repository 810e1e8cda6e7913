"""What ``train DATA`` chooses, and that the user's own options come first."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import tiny
from coco_files import save_tiny_detector, write_json, write_noise
from layouts import NAMES, write_layout

from igcv3det import Predictor, load_detector, train
from igcv3det.checkpoint import read_config, save_detector
from igcv3det.cli.train import main
from igcv3det.config import AnchorConfig, DetectorConfig
from igcv3det.datasets.checks import load_annotations
from igcv3det.datasets.dataset import Dataset
from igcv3det.datasets.record import ImageEntry, ImageTable
from igcv3det.datasets.store import build_store
from igcv3det.detector import build_detector
from igcv3det.engine.arguments import given_values, option_words
from igcv3det.pretrained import PRETRAINED
from igcv3det.structures import Categories
from igcv3det.tasks.detect import plan as plans
from igcv3det.tasks.detect.anchor_choice import choose_anchors
from igcv3det.tasks.detect.plan import Plan
from igcv3det.tasks.detect.step_time import StepTime, measure_step
from igcv3det.tasks.detect.train_data import training_call

SIZES = [(4, 4), (2, 2), (1, 1), (1, 1), (1, 1), (1, 1)]
QUICK = {
    "model.detector.image_size": 64,
    "data.num_workers": 0,
    "logged_images": 0,
    "plots": False,
    "trainer.enable_progress_bar": False,
}
QUICK_WORDS = option_words(QUICK)


@pytest.fixture
def weights(tmp_path):
    return str(save_tiny_detector(tmp_path / "tiny.safetensors"))


@pytest.fixture
def folder(tmp_path):
    return write_layout(tmp_path, "voc").folder


def options(choices):
    return {key: value for choice in choices for key, value in choice.options.items()}


def test_choices(folder, weights):
    choices = Plan(folder, {}, weights, free_mib=8000).choices()
    found = options(choices)
    assert found["data.root"] == str(folder)
    assert found["model.weights"] == weights
    assert found["data.batch_size"] == 4  # as many as there are images
    assert found["model.optim.lr"] == 1e-4  # all three classes are known
    assert found["model.freeze_bn_stats"] is True
    assert found["trainer.max_epochs"] == 100
    assert found["early_stopping"] == 5
    assert all(choice.reason for choice in choices)
    words = training_call(folder, ["--data.batch_size", "2"], weights=weights).arguments
    assert words.count("--data.batch_size") == 1
    assert words[words.index("--model.freeze_bn_stats") + 1] == "true"


@pytest.mark.parametrize(("free_mib", "size"), [(8000, 4), (4000, 4), (2400, 2), (10, 2)])
def test_the_batch_fits_the_memory(folder, weights, free_mib, size):
    given = {"model.detector.image_size": 320}
    assert (
        options(Plan(folder, given, weights, free_mib=free_mib).choices())["data.batch_size"]
        == size
    )


@pytest.mark.parametrize(("epochs", "interval"), [(1, 1), (3, 3), (100, 50), (120, 40), (53, 1)])
def test_the_last_epoch_is_validated(folder, weights, epochs, interval):
    """Four images would be validated every 50 epochs."""
    found = options(Plan(folder, {}, weights, epochs=epochs).choices())
    assert found["trainer.check_val_every_n_epoch"] == interval


def test_unknown_classes_train_at_a_higher_rate(folder, tmp_path):
    weights = save_tiny_detector(tmp_path / "other.safetensors", Categories((1, 2), ("a", "b")))
    found = options(Plan(folder, {}, str(weights)).choices())
    assert found["model.optim.lr"] == 5e-4
    assert found["model.freeze_bn_stats"] is False


def test_a_single_image_trains_with_fixed_statistics(tmp_path):
    weights = save_tiny_detector(tmp_path / "other.safetensors", Categories((1, 2), ("a", "b")))
    for number in (1, 2):
        write_noise(tmp_path / f"{number}.png", 64, 64)
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 64} for i in (1, 2)],
        "annotations": [{"image_id": i, "category_id": 1, "bbox": [4, 4, 40, 40]} for i in (1, 2)],
        "categories": [{"id": 1, "name": "c"}],
    }
    file = write_json(tmp_path / "all.json", content)  # one is for validation
    choices = Plan(file, {}, str(weights)).choices()
    assert options(choices)["model.freeze_bn_stats"] is True
    assert any("a batch of one image has no statistics" in choice.reason for choice in choices)
    words = ["--weights", str(weights), "--output", str(tmp_path / "run"), *QUICK_WORDS]
    assert main([str(file), "--epochs", "1", *words]) == 0


def test_narrow_objects_enlarge_the_input(tmp_path, weights):
    images = [{"id": i, "file_name": f"{i}.png", "width": 200, "height": 200} for i in range(5)]
    for image in images:
        write_noise(tmp_path / image["file_name"], 200, 200)
    boxes = [
        {"image_id": i, "category_id": 1, "bbox": [9 * j, 50, side, 60]}
        for i in range(5)
        for j, side in enumerate((30, 100))
    ]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "a"}]}
    file = write_json(tmp_path / "all.json", content)
    # half of them are 30 / 200 * 64 = 9.6 px wide in the input
    assert options(Plan(file, {}, weights).choices())["model.detector.image_size"] == 96
    given = {"model.detector.image_size": 64}
    assert options(Plan(file, given, weights).choices())["model.detector.image_size"] == 64


def test_minutes_become_steps(folder, weights, monkeypatch):
    monkeypatch.setattr(plans, "measure_step", lambda *_: StepTime(1.0, 0.0))
    found = options(Plan(folder, {}, weights, minutes=2).choices())
    # an epoch is one step; a validation of 2 of 4 images costs 0.2 s every 50 epochs
    assert found["trainer.max_steps"] == int(120 / (1 + 2 * 0.4 / 4 / 50))
    assert "trainer.max_epochs" not in found


def test_steps_of_the_user_have_no_epochs_beside_them(folder, weights):
    found = options(Plan(folder, {"trainer.max_steps": 3}, weights).choices())
    assert not {"trainer.max_epochs", "trainer.max_steps"} & found.keys()


def test_patience_and_steps_follow_from_the_length(folder, weights, monkeypatch):
    monkeypatch.setattr(plans, "measure_step", lambda *_: StepTime(1.0, 0.0))
    found = options(Plan(folder, {}, weights, minutes=60).choices())
    validations = found["trainer.max_steps"] // found["trainer.check_val_every_n_epoch"]
    assert found["early_stopping"] == validations // 4 > 5
    given = {"trainer.accumulate_grad_batches": 4, "data.batch_size": 1}
    plan = Plan(folder, given, weights, minutes=10)
    assert plan.epoch_steps == 1  # four batches of one image
    assert 140 <= options(plan.choices())["trainer.max_steps"] <= 150
    both = Plan(folder, {"trainer.max_steps": 50}, weights, epochs=3)
    assert options(both.choices())["trainer.max_epochs"] == 3


def test_data_and_short_options_come_before_a_configuration_file(folder, weights, tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(
        "data: {root: /other, train_images: a, val_annotations: b.json, batch_size: 2}\n"
        "model: {weights: igcv3-d}\n"
        "trainer: {max_epochs: 50, max_steps: 7, check_val_every_n_epoch: 2, "
        "default_root_dir: runs/old}\n"
    )
    short = {"weights": weights, "epochs": 5, "output": tmp_path / "new"}
    found = given_values(training_call(folder, ["--config", str(file)], **short).arguments, {})
    assert found["data.root"] == str(folder)
    assert (found["data.train_images"], found["data.val_annotations"]) == (None, None)
    assert found["data.batch_size"] == 2
    assert found["model.weights"] == weights
    assert (found["trainer.max_epochs"], found["trainer.max_steps"]) == (5, -1)
    assert found["trainer.default_root_dir"] == str(tmp_path / "new")
    assert found["trainer.check_val_every_n_epoch"] == 5  # of 5 epochs, not of 50
    # without a short option the file counts, and options on the command line always do
    words = ["--config", str(file), "--data.drop_empty_classes", "false"]
    found = given_values(training_call(folder, words, weights=weights).arguments, {})
    assert found["data.drop_empty_classes"] is False
    assert (found["trainer.max_epochs"], found["trainer.max_steps"]) == (50, 7)
    assert found["trainer.default_root_dir"] == "runs/old"


def test_the_format_can_be_given(folder, weights, tmp_path, capsys):
    (folder / "data.yaml").write_text("names: [a]\ntrain: images\n")
    words = [str(folder), "--weights", weights, "--output", str(tmp_path / "run")]
    assert main(words) == 1  # of two formats
    assert "--format" in capsys.readouterr().err
    assert main([*words, "--format", "voc", "--print_config"]) == 0
    assert "format: voc" in capsys.readouterr().out


def test_empty_classes_are_left_out(folder, weights):
    (folder / "classes.txt").write_text("unicorn\ncat\ndog\nzebra\n")
    (choice, *_) = Plan(folder, {}, weights).choices()
    assert "3 classes (cat, dog, zebra); left out, without a box: unicorn" in choice.reason
    (choice, *_) = Plan(folder, {"data.drop_empty_classes": False}, weights).choices()
    assert "4 classes" in choice.reason


def test_paths_of_the_user_are_planned_by(tmp_path, weights):
    """Not DATA's own division into training and validation images."""
    for number in range(10):
        write_noise(tmp_path / f"{number}.png", 64, 64)
    files = {}
    for name, count in (("all", 10), ("part", 3), ("rest", 2)):
        content = {
            "images": [
                {"id": i, "file_name": f"{i}.png", "width": 64, "height": 64} for i in range(count)
            ],
            "annotations": [
                {"image_id": i, "category_id": 1, "bbox": [4, 4, 40, 40]} for i in (0, 1)
            ],
            "categories": [{"id": 1, "name": "a"}],
        }
        files[name] = write_json(tmp_path / f"{name}.json", content)
    (choice, *_) = Plan(files["all"], {}, weights).choices()
    assert "8 training, 2 validation images" in choice.reason
    given = {"data.train_annotations": "part.json", "data.val_annotations": str(files["rest"])}
    given |= {"data.train_images": ".", "data.val_images": "."}
    choices = Plan(tmp_path, given, weights).choices()
    assert f"COCO JSON of {files['part']} and {files['rest']}: 3 training" in choices[0].reason
    assert options(choices)["data.batch_size"] == 3


def store_of(boxes, labels):
    """One image of 100 x 100 pixels."""
    return build_store(
        Categories((1, 2), ("a", "b")),
        ImageTable.of([ImageEntry(1, "a.png", (100, 100))]),
        np.zeros(len(boxes), np.int32),
        np.array(boxes, np.float32),
        np.array(labels, np.int16),
        np.zeros(len(boxes), np.bool_),
    )


def test_anchors_that_fit_are_kept():
    config = DetectorConfig(anchors=AnchorConfig(aspect_ratios=()))
    # the finest map's own anchor, at the centre of a cell
    found = choose_anchors(store_of([[2.5, 2.5, 22.5, 22.5]] * 5, [1] * 5), config, SIZES)
    assert found == (None, 1.0, 1.0)


def test_anchors_are_fitted_where_they_cover_more():
    config = DetectorConfig(anchors=AnchorConfig(aspect_ratios=(), min_scale=0.2))
    # 12 x 12 px around the centre of a cell: IoU 144 / 400 with the anchor of 20 x 20 px
    found = choose_anchors(store_of([[6.5, 6.5, 18.5, 18.5]] * 5, [1] * 5), config, SIZES)
    assert (found.before, found.after) == (0.0, 1.0)
    assert found.shapes[0][0] == (0.1333, 0.1333)  # the smallest change that is tried
    assert [len(level) for level in found.shapes] == [2] * 6


def test_anchors_of_weights_of_another_size_are_fitted_in_its_shares():
    # weights of 128 px at 64: the anchors of 0.2 take 0.4 of the image, centred as usual
    anchors = AnchorConfig(aspect_ratios=(), trained_size=128)
    config = DetectorConfig(image_size=64, anchors=anchors)
    found = choose_anchors(store_of([[17.5, 17.5, 57.5, 57.5]] * 5, [1] * 5), config, SIZES)
    assert found == (None, 1.0, 1.0)
    found = choose_anchors(store_of([[25.5, 25.5, 49.5, 49.5]] * 5, [1] * 5), config, SIZES)
    assert (found.before, found.after) == (0.0, 1.0)
    assert found.shapes[0][0] == (0.1333, 0.1333)


def test_a_run(folder, weights, tmp_path, capsys):
    run = tmp_path / "run"
    words = [str(folder), "--weights", weights, "--epochs", "2", "--output", str(run), *QUICK_WORDS]
    assert main([*words, "--trainer.check_val_every_n_epoch", "1"]) == 0
    out = capsys.readouterr().out
    assert "data        Pascal VOC (train, val): 4 training, 2 validation images" in out
    assert "image size  given: model.detector.image_size 64" in out
    detector = load_detector(run / "checkpoints" / "best.safetensors")
    assert detector.categories.names == NAMES
    with (run / "metrics.csv").open(newline="") as file:
        assert len([row for row in csv.DictReader(file) if row["val/AP"]]) == 2


def test_a_run_stops_early(folder, weights, tmp_path, caplog):
    run = tmp_path / "run"
    words = [str(folder), "--weights", weights, "--epochs", "30", "--output", str(run)]
    words += [*QUICK_WORDS, "--trainer.check_val_every_n_epoch", "1"]
    caplog.set_level("INFO")
    assert main([*words, "--early_stopping", "2", "--model.optim.lr", "1e-9"]) == 0
    assert "ended early: 2 validations without a better val/AP" in caplog.text


def test_fitted_anchors_are_part_of_the_detector(folder, weights, tmp_path):
    own = load_detector(weights)
    shapes = [[[0.1, 0.2]] * count for count in [6] * len(own.feature_sizes)]
    run = tmp_path / "run"
    words = [str(folder), "--weights", weights, "--epochs", "1", "--output", str(run), *QUICK_WORDS]
    assert main([*words, "--model.detector.anchors.shapes", json.dumps(shapes)]) == 0
    for file in ("best.safetensors", "last.ckpt"):
        detector = load_detector(run / "checkpoints" / file)
        assert detector.config.anchors.shapes[0] == ((0.1, 0.2),) * 6
        sides = detector.anchors[:, 2:] - detector.anchors[:, :2]
        np.testing.assert_allclose(sides, np.tile([6.4, 12.8], (len(sides), 1)), rtol=1e-5)
    assert read_config(run / "config.yaml").anchors == detector.config.anchors


@pytest.mark.parametrize(("size", "expected"), [(64, 80), (96, None), (80, None)])
def test_anchors_in_pixels_of_another_size_belong_to_the_size_of_the_weights(
    folder, weights, tmp_path, size, expected
):
    detector = load_detector(weights)
    anchors = dataclasses.replace(detector.config.anchors, trained_size=80)
    config = dataclasses.replace(detector.config, image_size=64, anchors=anchors)
    other = tmp_path / "other.safetensors"
    save_detector(build_detector(config, detector.categories), other)
    given = QUICK | {"model.detector.image_size": size}
    assert Plan(folder, given, str(other))._detector.anchors.trained_size == expected
    run = tmp_path / "run"
    words = [str(folder), "--weights", str(other), "--output", str(run), *option_words(given)]
    assert main([*words, "--trainer.max_steps", "1", "--trainer.limit_val_batches", "0"]) == 0
    for file in ("checkpoints/last.ckpt", "config.yaml"):
        found = load_detector(run / file).config
        assert (found.image_size, found.anchors.trained_size) == (size, expected)
    part = tmp_path / "part.yaml"
    part.write_text(f"model: {{weights: {other}, detector: {{image_size: {size}}}}}")
    assert read_config(part).anchors.trained_size == expected


def test_other_numbers_of_anchors_are_refused(folder, weights, tmp_path, capsys):
    words = [str(folder), "--weights", weights, "--epochs", "1", "--output", str(tmp_path / "run")]
    shapes = json.dumps([[[0.1, 0.2]]] * 6)
    assert main([*words, "--model.detector.anchors.shapes", shapes]) == 1
    assert "the counts must be the same" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--epochs", "2"], 2, "the following arguments are required: DATA"),
        (["gone"], 1, "train: gone: no such data set"),
        (["x", "--epochs", "2", "--minutes", "3"], 2, "not allowed with argument"),
        (["x", "--minutes", "0"], 2, "must be a number > 0"),
        (["x", "--epoch", "2"], 2, "unrecognized arguments: --epoch"),
        (["x", "--data.batchsize", "2"], 2, "did you mean --data.batch_size"),
        (["x", "y"], 2, "unrecognized arguments: y"),
        (["x", "--format", "unicorn"], 2, "argument --format: invalid choice: 'unicorn'"),
        (["x", "--data.batch_size", "0"], 2, "data.batch_size must be a whole number >= 1, got 0"),
        (["x", "--trainer.val_check_interval", "0"], 2, "trainer.val_check_interval must be > 0"),
        (["x", "--weights", "unicorn"], 1, "no pretrained weights: igcv3-d, mobilenetv2"),
    ],
)
def test_wrong_calls(words, status, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == status
    assert message in capsys.readouterr().err


@pytest.fixture
def small_objects(tmp_path):
    """Boxes of a twelfth of the image's side lie between the anchors' cells."""
    images = [{"id": 1, "file_name": "1.png", "width": 640, "height": 640}]
    boxes = [[x, y, 50, 50] for x in range(0, 590, 70) for y in range(0, 590, 70)]
    (tmp_path / "data").mkdir()
    write_noise(tmp_path / "data" / "1.png", 640, 640)
    for split in ("train", "val"):
        write_json(
            tmp_path / "data" / f"instances_{split}.json",
            {
                "images": images,
                "categories": [{"id": 1, "name": "dot"}],
                "annotations": [
                    {"id": n, "image_id": 1, "category_id": 1, "bbox": box}
                    for n, box in enumerate(boxes)
                ],
            },
        )
    return tmp_path / "data"


def _anchors_of(data, weights):
    given = {"model.detector.image_size": 320}
    (choice,) = [c for c in Plan(data, given, weights).choices() if c.name == "anchors"]
    return choice.reason


def test_a_map_of_stride_8_is_named_where_objects_are_small(small_objects, weights):
    reason = _anchors_of(small_objects, weights)
    assert "; --model.detector.anchors.stride8_scale 0.1 would cover " in reason


@pytest.mark.parametrize("name", PRETRAINED)
def test_small_objects_are_planned_for_with_all_released_weights(small_objects, name):
    can_have_one = name in ("igcv3-d", "mobilenetv2")  # the others' class scores are split
    assert ("stride8_scale" in _anchors_of(small_objects, name)) == can_have_one


def test_help(capsys):
    assert main(["data/mine", "--help"]) == 0
    assert "usage: igcv3det train DATA [--weights NAME]" in capsys.readouterr().out


def test_the_function(folder, weights, tmp_path, caplog):
    caplog.set_level("INFO")
    run = tmp_path / "run"
    best = train(folder, weights=weights, epochs=1, output=run, options=QUICK)
    assert best == run / "checkpoints" / "best.safetensors"
    assert len(Predictor.load(best)(np.zeros((32, 32, 3), np.uint8), threshold=0.9)) == 0
    assert "image size  given: model.detector.image_size 64" in caplog.text


def test_wrong_arguments_of_the_function(folder, weights, tmp_path):
    with pytest.raises(ValueError, match="epochs or minutes"):
        train(folder, epochs=1, minutes=1)
    with pytest.raises(ValueError, match="epochs must be a whole number >= 1, got 0"):
        train(folder, epochs=0)
    with pytest.raises(ValueError, match="minutes must be > 0, got -1"):
        train(folder, minutes=-1)
    with pytest.raises(FileNotFoundError, match="no such data set"):
        train(tmp_path / "gone")
    wrong = {**QUICK, "model.optim.lr": -1, "data.batch_size": 2}
    with pytest.raises(ValueError, match=r"options: .*lr must be > 0"):
        train(folder, weights=weights, epochs=1, output=tmp_path / "run", options=wrong)


def test_the_time_of_a_step(folder):
    record, images = Dataset(folder).read("train")
    store = load_annotations(record, images).store
    detector = dataclasses.replace(tiny.DETECTOR, num_classes=3)
    found = measure_step(store, images, detector, 2, "32-true")
    assert 0 < found.compute < 60
    assert 0 < found.load < 60
