"""show-data as a user calls it."""

import json

import albumentations
import cv2
import pytest
from synthetic import write_coco

from igcv3det.cli.show_data import main


@pytest.fixture
def data(tmp_path):
    write_coco(tmp_path / "data", "train2017")
    write_coco(tmp_path / "data", "val2017")
    return tmp_path / "data"


def test_it_writes_one_image_of_all_samples(data, tmp_path, capsys):
    output = tmp_path / "a.png"
    pipeline = albumentations.Compose([albumentations.HorizontalFlip(p=1)])
    albumentations.save(pipeline, tmp_path / "a.json", data_format="json")
    words = [str(data), "--output", str(output), "--model.detector.image_size", "64"]
    assert main([*words, "--data.augmentation", str(tmp_path / "a.json")]) == 0
    # 6 images of 64 pixels in three columns, 4 pixels between
    assert cv2.imread(str(output)).shape == (2 * 68, 3 * 68, 3)
    printed = capsys.readouterr().out
    assert "6 of 6 training images at 64 px" in printed
    assert "a.json, mosaic 0, seed 0" in printed
    first = output.read_bytes()
    assert main([*words, "--data.mosaic", "1", "--data.augment.preset", "flip"]) == 0
    assert "preset flip, mosaic 1" in capsys.readouterr().out
    assert output.read_bytes() != first


def test_the_options_of_a_run_are_its_configuration(data, tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text(
        json.dumps(
            {
                "seed_everything": 3,
                "model": {"detector": {"image_size": 96}},
                "data": {"root": "elsewhere", "mosaic": 0.25, "augment": {"preset": "ssd"}},
            }
        )
    )
    words = [str(data), "--output", str(tmp_path / "a.jpg"), "--config", str(config)]
    assert main([*words, "--count", "2"]) == 0
    printed = capsys.readouterr().out
    assert "2 of 6 training images at 96 px" in printed
    assert "preset ssd, mosaic 0.25, seed 3" in printed


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--output", "a.gif"], 2, "must end in .png"),
        (["--output", "a.png", "--data.augmentation", "no.json"], 1, "no.json: no such file"),
        (["--output", "a.png", "--data.augment.crop_min_scale", "3"], 2, "crop_min_scale must be"),
        (["--output", "a.png", "--data.mosaic", "3"], 2, "data.mosaic must be in [0, 1]"),
        ([], 2, "--output"),
    ],
)
def test_what_cannot_be_done(data, words, status, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        found = main([str(data), *words])
    except SystemExit as stop:
        found = stop.code
    assert found == status
    assert message in capsys.readouterr().err
    assert not (tmp_path / "a.png").exists()


def test_no_image_of_the_data_is_written_over(data, tmp_path, capsys):
    for split in ("train2017", "val2017"):
        image = next(path for path in (data / split).iterdir() if path.suffix in (".png", ".jpg"))
        before = image.read_bytes()
        assert main([str(data), "--output", str(image)]) == 1
        assert f"{image} is an image of the data set" in capsys.readouterr().err
        assert image.read_bytes() == before


@pytest.mark.parametrize(
    "words", [["--seed_everything", "-5"], ["--model.detector.image_size", "100000"]]
)
def test_numbers_out_of_range(data, tmp_path, capsys, words):
    try:
        status = main([str(data), "--output", str(tmp_path / "a.png"), *words])
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert words[0].lstrip("-") in capsys.readouterr().err
