"""Distillation as a user runs it: on images, from a teacher's file, cut short and resumed."""

import csv
import json

import numpy as np
import pytest
import torch
import yaml
from distillation_networks import HEAD, SMALL, built, small_config
from killed_runs import assert_same, killed_at

from igcv3det import load_detector
from igcv3det.checkpoint import save_detector
from igcv3det.io.images import write_image
from igcv3det.tasks.distill.module import DistillationModule
from tools.distill import main
from tools.fuse_boxes import main as fuse

DETECTOR = {
    "num_classes": 3,
    "image_size": 64,
    "padding": "same",
    "backbone": {key: list(v) if isinstance(v, tuple) else v for key, v in SMALL.items()},
    "head": {"extra_channels": list(HEAD.extra_channels), "activation": "sigmoid"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distill")
    save_detector(built(small_config(), 1), folder / "teacher.safetensors")
    (folder / "images").mkdir()
    random = np.random.default_rng(0)
    for number in range(20):
        small = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        write_image(folder / "images" / f"{number:02}.png", small.repeat(16, 0).repeat(16, 1))
    settings = {
        "model": {
            "teacher": str(folder / "teacher.safetensors"),
            "detector": DETECTOR,
            "distillation": {"start": "shared"},
            "optim": {
                "optimizer": "muon",
                "lr": 0.003,
                "lr_batch_size": None,
                "warmup_steps": 2,
                "ema_decay": 0.9,
            },
        },
        "data": {
            "folders": [str(folder / "images")],
            "side": 96,
            "cache": str(folder / "cache"),
            "batch_size": 4,
            "held_out": 4,
            "crop": {"size": 64},
        },
        "trainer": {
            "accelerator": "cpu",
            "max_steps": 6,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
        },
        "save_every_n_steps": 3,
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(settings))
    return folder


def run(folder, name, *options):
    place = folder / name
    call = ["--config", str(folder / "tiny.yaml"), "--trainer.default_root_dir", str(place)]
    status = main([*call, *options])
    return status, place


def rows_of(place):
    with (place / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


MAPPED = ("--model.distillation.mapped_stages", "[2]")


@pytest.mark.parametrize(
    "options",
    [
        (),
        (*MAPPED, "--model.distillation.batch_statistics_steps", "2"),
        (*MAPPED, "--model.distillation.batch_statistics_steps", "5"),
    ],
)
def test_a_killed_run_resumes_bitwise(folder, options):
    name = "".join(options[-1:])
    _, whole = run(folder, f"unbroken{name}", *options)
    with killed_at(DistillationModule, 4):
        run(folder, f"killed{name}", *options)
    last = folder / f"killed{name}" / "checkpoints" / "last.ckpt"
    status, place = run(folder, f"killed{name}", *options, "--ckpt_path", str(last))
    assert status == 0
    one, other = (
        torch.load(p / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for p in (whole, place)
    )
    assert_same(one, other)
    assert rows_of(whole) == rows_of(place)


@pytest.mark.parametrize(
    ("options", "trained_size"),
    [
        (("--model.distillation.start", "random", "--model.detector.image_size", "96"), 64),
        (("--model.distillation.start", "morph"), None),  # which needs another teacher
    ],
)
def test_a_run_from_weights_resumes(folder, options, trained_size):
    """It neither reads the weights again nor begins as it would without them."""
    weights = folder / "weights.safetensors"
    save_detector(built(small_config(), 2), weights)
    options = ("--model.weights", str(weights), "--save_every_n_steps", "1", *options)
    _, whole = run(folder, f"whole {options[-1]}", *options)
    with killed_at(DistillationModule, 4):
        run(folder, f"begun {options[-1]}", *options)
    weights.unlink()
    place = folder / f"begun {options[-1]}"
    last = place / "checkpoints" / "last.ckpt"
    assert main(["--config", str(place / "config.yaml"), "--ckpt_path", str(last)]) == 0
    one, other = (
        torch.load(p / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for p in (whole, place)
    )
    assert_same(one, other)
    assert load_detector(last).config.anchors.trained_size == trained_size


def test_training_leaves_a_detector_with_the_teachers_classes(folder):
    status, place = run(folder, "learns", "--trainer.max_steps", "40")
    assert status == 0
    losses = [float(row["train/loss"]) for row in rows_of(place) if row["train/loss"]]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    student = load_detector(place / "checkpoints" / "best.safetensors")
    teacher = load_detector(folder / "teacher.safetensors")
    assert student.categories == teacher.categories
    assert {"val/score", "val/stage7", "val/tap0"} <= set(rows_of(place)[-1])


def test_keys_of_earlier_versions_are_renamed(folder, caplog):
    old = yaml.safe_load((folder / "tiny.yaml").read_text())
    old["data"]["view"] = old["data"].pop("crop")
    old["model"]["reference_runtime"] = "torch"
    (folder / "old.yaml").write_text(yaml.safe_dump(old))
    options = ("--config", str(folder / "old.yaml"), "--data.view.flip", "0.25")
    status, place = run(folder, "old", *options, "--trainer.max_steps", "1")
    assert status == 0
    saved = yaml.safe_load((place / "config.yaml").read_text())
    assert (saved["data"]["crop"]["size"], saved["data"]["crop"]["flip"]) == (64, 0.25)
    assert saved["model"]["teacher_runtime"] == "torch"
    for key in ("data.view", "data.view.flip", "model.reference_runtime"):
        assert f"{key} has a new name" in caplog.text


def test_frozen_parts_keep_weights_and_statistics(folder):
    frozen = "[stem, stage1, last, extras, head]"
    status, place = run(
        folder, "frozen", "--model.distillation.frozen", frozen, "--trainer.max_steps", "3"
    )
    assert status == 0
    student = load_detector(place / "checkpoints" / "last.ckpt")
    teacher = load_detector(folder / "teacher.safetensors")
    for name in ("backbone.stem", "backbone.last", "extras", "head"):
        own, taught = (d.get_submodule(name).state_dict() for d in (student, teacher))
        for key, value in taught.items():
            assert torch.equal(own[key], value), f"{name}.{key}"
    changed = student.backbone.blocks[1].project[1].running_mean
    assert not torch.equal(changed, torch.zeros_like(changed))


def test_norms_keep_the_statistics_of_the_first_steps(folder):
    steps = ("--model.distillation.batch_statistics_steps", "2")
    places = [run(folder, f"kept{n}", *steps, "--trainer.max_steps", n)[1] for n in ("2", "5")]
    early, late = (load_detector(p / "checkpoints" / "last.ckpt").state_dict() for p in places)
    raw = [
        torch.load(p / "checkpoints" / "last.ckpt", weights_only=True)["training_weights"]
        for p in places
    ]
    statistics = [name for name in raw[0] if name.endswith(("running_mean", "running_var"))]
    assert len(statistics) > 50
    for name in statistics:
        assert torch.equal(raw[0][name], raw[1][name]), name
    scale = "backbone.blocks.3.project.1.weight"
    assert not torch.equal(early[scale], late[scale])


def test_a_stage_is_trained_before_the_teachers_later_stages(folder):
    parts = ("stem", *(f"stage{n}" for n in (1, 2, 3, 5, 6, 7)), "last", "extras", "head")
    status, place = run(
        folder,
        "tail",
        *("--model.distillation.frozen", f"[{', '.join(parts)}]"),
        *("--model.distillation.teacher_tail", "true", "--model.distillation.mapped_stages", "[4]"),
    )
    assert status == 0
    row = rows_of(place)[-1]
    assert {"val/stage4", "val/stage7", "val/score"} <= set(row)
    student = load_detector(place / "checkpoints" / "last.ckpt")
    moved = {
        index
        for index, block in enumerate(student.backbone.blocks)
        if int(block.project[1].num_batches_tracked) > 0
    }
    starts = student.backbone.stage_starts
    assert moved == set(range(starts[3], starts[4]))


def test_another_phase_starts_from_weights(folder):
    _, first = run(folder, "phase1", "--trainer.max_steps", "2")
    weights = first / "checkpoints" / "best.safetensors"
    options = ("--model.weights", str(weights), "--trainer.max_steps", "1")
    status, second = run(
        folder, "phase2", *options, "--model.optim.lr", "1e-9", "--model.optim.muon_lr", "1e-9"
    )
    assert status == 0
    one, other = (
        load_detector(p / "checkpoints" / "last.ckpt").backbone.blocks[3].project[0].weight
        for p in (first, second)
    )
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_a_later_phase_may_take_the_teachers_heads_again(folder):
    _, first = run(folder, "taught", "--trainer.max_steps", "5")
    options = ("--model.weights", str(first / "checkpoints" / "best.safetensors"))
    options += ("--model.distillation.copied", "[head]", "--trainer.max_steps", "1")
    still = ("--model.distillation.frozen", "[head]")
    status, second = run(folder, "again", *options, *still)
    assert status == 0
    heads = [
        load_detector(path).head.state_dict()
        for path in (
            folder / "teacher.safetensors",
            second / "checkpoints" / "last.ckpt",
            first / "checkpoints" / "last.ckpt",
        )
    ]
    assert_same(heads[0], heads[1])
    assert any(not torch.equal(value, heads[2][name]) for name, value in heads[0].items())


def write_boxes(folder, names):
    images = [
        {"id": i, "file_name": name, "width": 96, "height": 96} for i, name in enumerate(names)
    ]
    annotations = [
        {"image_id": i, "category_id": 1 + i % 3, "bbox": [10, 10, 60, 70], "score": 0.8}
        for i, _ in enumerate(names)
    ]
    categories = [{"id": i, "name": f"class {i}"} for i in (1, 2, 3)]
    path = folder / f"boxes{len(names)}.json"
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))
    return path


BOXES = ("--model.distillation.box_weight", "1", "--trainer.max_steps", "2")


def test_boxes_with_scores_are_trained_on(folder):
    path = write_boxes(folder, [f"{n:02}.png" for n in range(20)])
    status, place = run(folder, "boxes", *BOXES, "--data.boxes", f"[{path}]")
    assert status == 0
    row = rows_of(place)[0]
    assert float(row["train/box"]) > 0
    assert float(row["train/classification"]) > 0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (BOXES, "data.boxes must name files"),
        (
            (*BOXES, "--data.boxes", "[BOXES]"),
            "17 images are not in these files, or not with their size, such as 03.png",
        ),
        (("--model.teacher", "none.safetensors"), "none.safetensors: no such file"),
        (("--model.detector.num_classes", "4"), "teacher.safetensors has 3"),
        (("--data.folders", "[nowhere]"), "nowhere: no such folder"),
        (("--data.held_out", "18"), "20 images are too few"),
        (("--data.crop.size", "128"), "data.crop.size 128 is more than data.side 96"),
        (("--model.detector.backbone.name", "mobilenetv2"), "mobilenetv2"),
    ],
)
def test_impossible_values_are_one_line(folder, capsys, options, complaint):
    path = write_boxes(folder, ["00.png", "01.png", "02.png"])
    status, _ = run(folder, "wrong", *[word.replace("BOXES", str(path)) for word in options])
    assert status == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("distill: ")
    assert complaint in said[-1]


def test_a_wrong_value_is_a_wrong_call(folder, capsys):
    status, _ = run(folder, "wrong", "--model.distillation.frozen", "[stage9]")
    assert status == 2
    assert "stage9" in capsys.readouterr().err


def records(path, *found):
    content = [
        {
            "file": f"x/{name}",
            "width": 100,
            "height": 50,
            "detections": [
                {"category_id": c, "score": s, "box": b, "label": ""} for c, s, b in own
            ],
        }
        for name, own in found
    ]
    path.write_text(json.dumps(content))
    return str(path)


def test_fused_records_become_annotations(tmp_path, capsys):
    one = records(tmp_path / "a.json", ("1.png", [(1, 0.8, [0, 0, 50, 50])]), ("2.png", []))
    two = records(tmp_path / "b.json", ("1.png", [(1, 0.4, [0, 0, 50, 50])]), ("2.png", []))
    output = tmp_path / "fused.json"
    assert fuse([one, two, "--output", str(output)]) == 0
    content = json.loads(output.read_text())
    assert [image["file_name"] for image in content["images"]] == ["1.png", "2.png"]
    (annotation,) = content["annotations"]
    assert annotation["bbox"] == [0, 0, 50, 50]
    assert annotation["category_id"] == 1
    assert annotation["score"] == pytest.approx(0.6)
    assert "2 images, 1 boxes" in capsys.readouterr().out


def test_annotated_boxes_replace_the_teachers_boxes(tmp_path):
    found = ("1.png", [(1, 0.8, [0, 0, 50, 50]), (3, 0.8, [0, 0, 50, 50])])
    one = records(tmp_path / "a.json", found)
    true = {
        "images": [{"id": 1, "file_name": "1.png", "width": 100, "height": 50}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20]}],
        "categories": [{"id": 1, "name": "person"}],
    }
    (tmp_path / "true.json").write_text(json.dumps(true))
    output = tmp_path / "fused.json"
    options = ["--true", str(tmp_path / "true.json"), "--classes", "person"]
    assert fuse([one, "--output", str(output), *options]) == 0
    annotations = json.loads(output.read_text())["annotations"]
    assert [(a["category_id"], a.get("score")) for a in annotations] == [(1, None), (3, 0.8)]
    assert annotations[0]["bbox"] == [10, 10, 20, 20]


def test_faults_of_records_are_named(tmp_path, capsys):
    one = records(tmp_path / "a.json", ("1.png", []))
    two = records(tmp_path / "b.json", ("2.png", []))
    assert fuse([one, two, "--output", str(tmp_path / "x.json")]) == 1
    assert "b.json: has other images" in capsys.readouterr().err
    (tmp_path / "c.json").write_text("{")
    assert fuse([str(tmp_path / "c.json"), "--output", str(tmp_path / "x.json")]) == 1
    assert "c.json: not a file of igcv3det predict" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        fuse([one, "--output", "x", "--true", "y", "--classes", "unicorn"])
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "not a file of igcv3det predict"),
        ('[{"file": "caf\udce9"}]', "not a file of igcv3det predict"),
        ("[" * 100_000, "not a file of igcv3det predict"),
        ([31, 40, 2, 2, 0.5], "record of a.jpg: needs a box x0 <= x1"),
        ([1, 1, 2, 2, 5], "score in 0..1, got [1, 1, 2, 2] and 5"),
        ([1, 1, 2, 2, float("nan")], "and nan"),
        ([1, 1, 2, 2, "high"], "record of a.jpg: "),
    ],
)
def test_records_that_predict_does_not_write(tmp_path, capsys, content, message):
    if isinstance(content, list):
        *box, score = content
        found = [{"box": box, "score": score, "category_id": 1}]
        content = json.dumps([{"file": "a.jpg", "width": 50, "height": 50, "detections": found}])
    file = tmp_path / "r.json"
    file.write_bytes(content.encode(errors="surrogateescape"))
    assert fuse([str(file), "--output", str(tmp_path / "x.json")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fuse-boxes: {file}: ")
    assert message in line
    assert not (tmp_path / "x.json").exists()
