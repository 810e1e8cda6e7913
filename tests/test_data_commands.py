"""convert-data, split-data, check-data and eval on data sets of every layout."""

import json
import os
import shlex
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from coco_files import save_tiny_detector
from layouts import LAYOUTS, NAMES, write_layout

from igcv3det.cli import check_data, convert_data, split_data
from igcv3det.cli import eval as evaluate
from igcv3det.datasets.coco import read_coco
from igcv3det.datasets.dataset import Dataset
from igcv3det.io.images import read_image, write_image
from igcv3det.structures import Categories
from igcv3det.tasks.detect.splits import PATH_KEYS, SplitPaths, TrainingSplits


@pytest.mark.parametrize("layout", LAYOUTS)
def test_conversion_loses_nothing(tmp_path, capsys, layout):
    folder, _ = write_layout(tmp_path, layout)
    output = tmp_path / "out" / "val.json"
    assert convert_data.main([str(folder), str(output), "--split", "val"]) == 0
    assert "2 images, 3 boxes, 3 classes, 0 issues" in capsys.readouterr().out
    converted, record = read_coco(output), Dataset(folder).read("val").record
    # JSON does not say whose frame the size is
    assert [entry[:3] for entry in converted.images] == [entry[:3] for entry in record.images]
    assert converted.categories == record.categories
    assert converted.boxes.tolist() == record.boxes.tolist()
    assert converted.labels.tolist() == record.labels.tolist()
    assert convert_data.main([str(folder), str(output), "--split", "val"]) == 0
    assert convert_data.main([str(folder), str(output)]) == 1
    assert "holds something else" in capsys.readouterr().err


def test_conversion_says_what_is_held_out(tmp_path, capsys):
    folder, _ = write_layout(tmp_path, "coco")
    only = folder / "annotations" / "instances_train2017.json"
    output = tmp_path / "out.json"
    assert convert_data.main([str(only), str(output), "--split", "train"]) == 0
    assert "has no validation split: 20 % of its images are it" in capsys.readouterr().err


def test_conversion_into_the_data_set_and_into_a_pipe(tmp_path, capsys):
    folder, _ = write_layout(tmp_path, "voc")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        text = pool.submit(pipe.read_text)
        assert convert_data.main([str(folder), str(pipe), "--split", "val"]) == 0
        assert len(json.loads(text.result(timeout=30))["images"]) == 2
    assert capsys.readouterr().out == ""
    assert convert_data.main([str(folder), str(folder / "val.json"), "--split", "val"]) == 0
    assert "--format is needed to read that" in capsys.readouterr().err
    with pytest.raises(ValueError, match="--format"):
        Dataset(folder)


def test_conversion_keeps_fractions_crowds_and_empty_classes(tmp_path, capsys):
    folder, _ = write_layout(tmp_path, "voc")
    file = folder / "Annotations" / "b.xml"
    text = file.read_text().replace("<difficult>0", "<difficult>1")
    file.write_text(text.replace("<xmin>0<", "<xmin>0.1<"))
    (folder / "classes.txt").write_text("unicorn\nzebra\ndog\ncat\n")
    output = tmp_path / "all.json"
    assert convert_data.main([str(folder), str(output)]) == 0
    assert "classes without a box, kept: unicorn" in capsys.readouterr().out
    content = json.loads(output.read_text())
    assert [item["name"] for item in content["categories"]] == ["unicorn", "zebra", "dog", "cat"]
    (crowd,) = (item for item in content["annotations"] if item["iscrowd"])
    assert crowd["bbox"] == [0.1, 0, 32 - 0.1, 64]
    output.unlink()
    assert convert_data.main([str(folder), str(output), "--drop-empty-classes"]) == 0
    content = json.loads(output.read_text())
    assert [(c["id"], c["name"]) for c in content["categories"]] == [
        (2, "zebra"),
        (3, "dog"),
        (4, "cat"),
    ]


def test_what_cannot_be_converted_is_named(tmp_path, capsys):
    folder, _ = write_layout(tmp_path, "yolo")
    label = folder / "labels" / "train" / "a.txt"
    label.write_text("0,0.5,0.5,0.5,0.5\n")
    assert convert_data.main([str(folder), str(tmp_path / "a.json"), "--strict"]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"{label}: bad annotation: line 1: fields must be separated by blanks")
    assert "1 issue (1 bad annotation)" in second
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_check_and_evaluation(tmp_path, capsys, layout):
    folder, _ = write_layout(tmp_path, layout)
    report, metrics = tmp_path / "report.json", tmp_path / "metrics.json"
    assert check_data.main(["--data", str(folder), "--json", str(report), "--strict"]) == 0
    assert json.loads(report.read_text())["images"] == 6
    weights = save_tiny_detector(tmp_path / "tiny.safetensors", Categories((1, 2, 3), NAMES))
    call = ["--checkpoint", str(weights), "--data", str(folder), "--output", str(metrics)]
    plots = ["--plots", str(tmp_path / "plots")] if layout == "voc" else []
    assert evaluate.main([*call, *plots]) == 0
    assert json.loads(metrics.read_text())["images"] == 2
    if plots:
        numbers = json.loads((tmp_path / "plots" / "plots.json").read_text())
        assert [image["file"] for image in numbers["images_with_errors"]] == ["e.png", "f.png"]
        assert numbers["images_with_errors"][0]["drawn"] == "worst_1.png"
    assert evaluate.main([*call, "--split", "train"]) == 0
    assert json.loads(metrics.read_text())["images"] == 4
    assert capsys.readouterr().err == ""


def test_leakage_between_splits_is_found(tmp_path, capsys):
    folder, _ = write_layout(tmp_path, "voc")
    images, report = folder / "JPEGImages", tmp_path / "report.json"
    copied = read_image(images / "d.png")
    write_image(images / "e.png", copied)  # of the same size, in the other split
    assert check_data.main(["--data", str(folder), "--json", str(report)]) == 0
    output = capsys.readouterr().out
    assert "near-duplicates in different splits: 2 images in 1 group" in output
    found = {item["kind"]: item for item in json.loads(report.read_text())["findings"]}
    assert found["near-duplicates in different splits"]["groups"] == [
        ["d.png (train)", "e.png (val)"]
    ]
    assert found["few boxes"]["count"] == 3
    assert check_data.main(["--data", str(folder), "--split", "val", "--json", str(report)]) == 0
    found = {item["kind"] for item in json.loads(report.read_text())["findings"]}
    assert "near-duplicates in different splits" not in found


@pytest.mark.parametrize("layout", ["yolo", "cvat"])
def test_split(tmp_path, capsys, layout):
    folder, _ = write_layout(tmp_path, layout)
    source = folder / "annotations.xml" if layout == "cvat" else folder
    assert split_data.main([str(source), "--output", str(tmp_path / "out"), "--share", "0.34"]) == 0
    parts = [read_coco(tmp_path / "out" / f"instances_{name}.json") for name in ("train", "val")]
    assert [len(part.images) for part in parts] == [4, 2]
    assert sum(map(len, parts)) == 8


def _printed_uses(output):
    """Words of the two lines on how to use the result, by command."""
    lines = [line.partition(": ") for line in output.splitlines()[-2:]]
    return {command: shlex.split(words) for command, _, words in lines}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_printed_calls_read_what_was_split(tmp_path, capsys, layout):
    folder, _ = write_layout(tmp_path, layout)
    output = tmp_path / "of both"
    assert split_data.main([str(folder), "--output", str(output), "--share", "0.34"]) == 0
    uses = _printed_uses(capsys.readouterr().out)
    assert check_data.main([*uses["check-data, eval"], "--strict"]) == 0
    root, *words = uses["train"]
    assert root == str(output)
    given = dict(zip(words[::2], words[1::2], strict=True))
    paths = [SplitPaths(*(given[f"--{key}"] for key in PATH_KEYS[s])) for s in ("train", "val")]
    splits = TrainingSplits(Path(root), *paths)
    for (record, images), count in ((splits.train, 4), (splits.val, 2)):
        assert len(record.images) == count
        assert all((images / entry.file_name).is_file() for entry in record.images)


def test_the_folder_of_a_coco_file_that_is_split(tmp_path, capsys):
    folder, _ = write_layout(tmp_path, "coco")
    file = folder / "annotations" / "instances_train2017.json"
    words = [str(file), "--output", str(tmp_path / "out"), "--share", "0.5"]
    assert split_data.main(words) == 0
    uses = _printed_uses(capsys.readouterr().out)["check-data, eval"]
    assert uses[-2:] == ["--images", str(folder / "train2017")]
    shutil.rmtree(folder / "train2017")
    assert split_data.main(words) == 0
    assert _printed_uses(capsys.readouterr().out)["check-data, eval"][-2:] == ["--images", "DIR"]


def test_the_documented_example_of_a_split(tmp_path, capsys, monkeypatch):
    page = Path(__file__).parent.parent / "docs" / "data.md"
    block = page.read_text(encoding="utf-8").partition("## Split")[2].split("```")[1]
    split, check, train, *_ = block.strip().replace("\\\n", "").splitlines()
    folder, _ = write_layout(tmp_path, "yolo")
    (tmp_path / "data").mkdir()
    folder.rename(tmp_path / "data" / "mine")
    monkeypatch.chdir(tmp_path)
    assert split_data.main(shlex.split(split)[2:]) == 0
    uses = _printed_uses(capsys.readouterr().out)
    assert uses["train"] == shlex.split(train)[2:]
    words, (*printed, images) = shlex.split(check)[2:], uses["check-data, eval"]
    assert (printed, Path(images)) == (words[:-1], Path(words[-1]).absolute())
    assert check_data.main(words) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: --data, or --annotations and --images"),
        (["--data", "a", "--images", "b"], "--data goes without --annotations and --images"),
        (["--annotations", "a", "--images", "b", "--split", "val"], "--split and --format go with"),
        (["--annotations", "a"], "required: --images"),
        (["--data", "a", "--format", "tfrecord"], "invalid choice: 'tfrecord'"),
    ],
)
def test_wrong_calls(words, message, capsys):
    for command in (check_data, evaluate):
        with pytest.raises(SystemExit, match="2"):
            command.main(words)
        assert message in capsys.readouterr().err


def test_entries_of_one_file_stay_together(tmp_path):
    """Whatever the seed: else an image would be trained on and validated with."""
    images = [
        {"id": number, "file_name": f"{number // 2}.png", "width": 9, "height": 9}
        for number in range(8)
    ]
    source = tmp_path / "all.json"
    source.write_text(
        json.dumps({"images": images, "annotations": [], "categories": [{"id": 1, "name": "a"}]})
    )
    for seed in range(5):
        words = ["--output", str(tmp_path / str(seed)), "--share", "0.5", "--seed", str(seed)]
        assert split_data.main([str(source), *words]) == 0
        train, val = (
            {
                image.file_name
                for image in read_coco(tmp_path / str(seed) / f"instances_{name}.json").images
            }
            for name in ("train", "val")
        )
        assert len(train) == len(val) == 2
        assert not train & val
