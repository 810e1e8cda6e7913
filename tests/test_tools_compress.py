"""tools/compress.py as a user runs it, on a small detector."""

import json
import shutil

import pytest
import torch
from tasks.compress.networks import MOBILENETV2, small_detector

pytest.importorskip("scipy")
from igcv3det.checkpoint import load_detector, save_detector
from igcv3det.cli.compress import main
from igcv3det.shapes.dataset import write_shapes
from igcv3det.tasks.compress import price, search
from igcv3det.tasks.compress.candidates import find_candidates


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("compress")
    write_shapes(root, train=44, val=1, image_size=64)
    (root / "train2017" / "broken.jpg").write_bytes(b"no image")
    save_detector(small_detector(MOBILENETV2), root / "model.safetensors")
    return root


def _call(folder, output, *others):
    options = [
        "--checkpoint",
        str(folder / "model.safetensors"),
        "--images",
        str(folder / "train2017"),
    ]
    return main(
        [
            *options,
            *("--output", str(output), "--steps", "2", "--finish-steps", "1", "--workers", "1"),
            *("--threads", "1", "--backend", "torch", *others),
        ]
    )


def _few(config, grouped_stages=()):
    """Some candidates of four positions; the originals of the others."""
    found = find_candidates(config, grouped_stages)
    kept = {"stem": 2, "block3": 3, "block13": 2, "last": 4}
    return {position: own[: kept.get(position, 1)] for position, own in found.items()}


@pytest.mark.parametrize("offered", ["few", pytest.param("all", marks=pytest.mark.slow)])
def test_from_a_detector_to_the_front_and_again(folder, offered, capsys, monkeypatch):
    output = folder / offered
    monkeypatch.setattr(price, "ROUNDS", 3)
    if offered == "few":
        monkeypatch.setattr(search, "find_candidates", _few)
    assert _call(folder, output, "--parameters", "0.97", "0.95") == 0
    found = capsys.readouterr().out
    report = json.loads((output / "report.json").read_text())
    assert [row["name"] for row in report["detectors"]] == ["parameters0.97", "parameters0.95"]
    assert report["images"] == {"used": 44, "unreadable": 1}
    original = load_detector(folder / "model.safetensors")
    whole = sum(p.numel() for p in original.parameters())
    for row in report["detectors"]:
        detector = load_detector(output / f"{row['name']}.safetensors")
        count = sum(p.numel() for p in detector.parameters())
        assert count / whole == pytest.approx(row["predicted"]["parameters"], abs=1e-9)
        assert count / whole <= row["budgets"]["parameters"]
        with torch.no_grad():
            assert torch.isfinite(detector(torch.zeros(1, 3, 64, 64)).logits).all()
    losses = [point["loss"] for point in report["front"]]
    assert losses == sorted(losses, reverse=True)
    assert (output / "front.png").read_bytes()[:4] == b"\x89PNG"
    assert "| stem |" in (output / "report.md").read_text()
    assert "candidates: 0 to train" not in found
    # what was done is not done again: other budgets need no training
    monkeypatch.setattr(price.Pricer, "price", None)
    assert _call(folder, output, "--parameters", "0.96", "0.01") == 1
    captured = capsys.readouterr()
    assert "candidates: 0 to train" in captured.out
    assert "parameters0.96.safetensors: latency" in captured.out
    assert "parameters 0.01: no combination is that small; the least is 0." in captured.err
    # a search that was killed loses the candidate in hand
    done = sorted((output / "work" / "candidates").glob("*.json"))
    done[0].unlink()
    assert _call(folder, output, "--parameters", "0.96") == 0
    assert "candidates: 1 to train" in capsys.readouterr().out
    # other weights under the same name
    shutil.copy(folder / "model.safetensors", folder / "kept")
    save_detector(small_detector(MOBILENETV2, seed=1), folder / "model.safetensors")
    assert _call(folder, output, "--parameters", "0.96") == 1
    assert "holds another search (checkpoint" in capsys.readouterr().err
    shutil.move(folder / "kept", folder / "model.safetensors")
    # the folder of another search
    assert _call(folder, output, "--image-count", "30") == 1
    assert "holds another search (image_count 512, not 30)" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_prices_come_from_the_backend(folder, backend, monkeypatch):
    pytest.importorskip(backend)
    monkeypatch.setattr(price, "ROUNDS", 3)
    monkeypatch.setattr(search, "find_candidates", _few)
    output = folder / backend
    assert _call(folder, output, "--parameters", "0.97", "--backend", backend) == 0
    report = json.loads((output / "report.json").read_text())
    assert report["backend"] == backend
    assert report["original"]["latency"] > 0
    assert report["detectors"][0]["measured_latency"] > 0


def test_images_that_cannot_be_used_are_named(folder, tmp_path, capsys):
    (tmp_path / "few").mkdir()
    for name, message in (
        ("none", "no such folder of images"),
        ("few", "holds no image"),
    ):
        status = main(
            [
                *("--checkpoint", str(folder / "model.safetensors")),
                *("--images", str(tmp_path / name), "--output", str(tmp_path / "out")),
            ]
        )
        assert status == 1
        assert f"{tmp_path / name}: {message}" in capsys.readouterr().err
    shutil.copy(next((folder / "train2017").glob("[!b]*")), tmp_path / "few")
    arguments = ["--images", str(tmp_path / "few"), "--output", str(tmp_path / "out")]
    assert main(["--checkpoint", str(folder / "model.safetensors"), *arguments]) == 1
    assert "1 readable images; at least 40 are needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--latency", "1.5"], "'1.5' is not a share in (0, 1]"),
        (["--latency", "0.8", "0.7", "--parameters", "0.5", "0.6", "0.7"], "equally many values"),
        (["--grouped-stages", "8"], "numbers from 1 to 7"),
        (["--backend", "tflite"], "invalid choice"),
    ],
)
def test_wrong_calls(folder, arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        _call(folder, folder / "wrong", *arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_files_of_other_software_are_refused(folder, tmp_path, capsys):
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    images = str(folder / "train2017")
    output = str(tmp_path / "out")
    assert main(["--checkpoint", str(other), "--images", images, "--output", output]) == 1
    assert "not a file of this package" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
