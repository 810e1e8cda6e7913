"""tools/compress.py as a user runs it, on a small detector."""

import dataclasses
import json
import os
import shutil
import signal
from contextlib import suppress

import pytest
import torch
from tasks.compress.networks import MOBILENETV2, small_detector

pytest.importorskip("scipy")
from igcv3det.atomic_files import replacing
from igcv3det.checkpoint import load_detector, save_detector
from igcv3det.cli.compress import main
from igcv3det.measure.complexity import count_multiply_adds
from igcv3det.shapes.dataset import write_shapes
from igcv3det.tasks.compress import agreement, assembly, front, price
from igcv3det.tasks.compress.detector_teacher import DetectorTeacher
from igcv3det.tasks.compress.input_size import InputSizes
from igcv3det.tasks.compress.search import Search
from igcv3det.tasks.compress.work_folder import WorkFolder


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


_ALL = DetectorTeacher.candidates


def _few(teacher, grouped_stages=()):
    """Some candidates of four positions; the originals of the others."""
    found = _ALL(teacher, grouped_stages)
    kept = {"stem": 2, "block3": 3, "block13": 2, "last": 4}
    return {position: own[: kept.get(position, 1)] for position, own in found.items()}


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(price, "ROUNDS", 3)
    monkeypatch.setattr(DetectorTeacher, "candidates", _few)


@pytest.fixture(scope="module")
def searched(folder):
    """The folder of a search of few candidates that is done."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(price, "ROUNDS", 3)
        patch.setattr(DetectorTeacher, "candidates", _few)
        assert _call(folder, folder / "few", "--parameters", "0.97", "0.95") == 0
    return folder / "few"


def _assert_front(folder, output):
    report = json.loads((output / "report.json").read_text())
    assert [row["name"] for row in report["detectors"]] == ["parameters0.97", "parameters0.95"]
    assert report["images"] == {"used": 44, "unreadable": 1}
    assert report["peak_memory_mib"]["assembly"] > 0
    original = load_detector(folder / "model.safetensors")
    whole = sum(p.numel() for p in original.parameters())
    for row in report["detectors"]:
        detector = load_detector(output / f"{row['name']}.safetensors")
        count = sum(p.numel() for p in detector.parameters())
        assert count / whole == pytest.approx(row["predicted"]["parameters"], abs=1e-9)
        assert count / whole <= row["budgets"]["parameters"]
        with torch.no_grad():
            assert torch.isfinite(detector(torch.zeros(1, 3, 64, 64)).logits).all()
        # not those of folded norms, whose training would start from another function
        assert detector.backbone.stem[1].running_mean.abs().max() > 0
    losses = [point["loss"] for point in report["front"]]
    assert losses == sorted(losses, reverse=True)
    assert (output / "front.png").read_bytes()[:4] == b"\x89PNG"
    assert "| stem |" in (output / "report.md").read_text()


def test_from_a_detector_to_the_front(folder, searched):
    _assert_front(folder, searched)


@pytest.mark.slow
def test_all_candidates(folder, capsys, monkeypatch):
    monkeypatch.setattr(price, "ROUNDS", 3)
    assert _call(folder, folder / "all", "--parameters", "0.97", "0.95") == 0
    printed = capsys.readouterr().out
    assert "1 images cannot be read and are left out" in printed
    assert "Peak memory, GiB: prices " in printed
    assert "; each of 1 workers up to " in printed
    _assert_front(folder, folder / "all")


def test_other_budgets_need_no_training(folder, searched, few, capsys, monkeypatch):
    monkeypatch.setattr(price.Pricer, "price", None)
    assert _call(folder, searched, "--parameters", "0.96", "0.01") == 1
    captured = capsys.readouterr()
    before, _ = captured.out.split("candidates: 0 to train")
    assert "the least is 0." in before
    assert "; the other budgets are kept" in before
    assert "parameters0.96.safetensors: latency" in captured.out
    assert "--data.side 64 --data.crop.size 64 --data.held_out 8" in captured.out  # of 44 images
    assert "parameters 0.01: no combination is that small; the least is 0." in captured.err


def test_a_killed_search_loses_the_candidate_in_hand(folder, searched, few, capsys):
    candidates = searched / "work" / "candidates"
    record = sorted(candidates.glob("*.json"))[0]
    missing, cut, *_ = sorted(set(candidates.glob("*.safetensors")) - {_weights(record)})
    before = {path: path.read_bytes() for path in (missing, cut, _weights(record))}
    record.unlink()
    missing.unlink()
    cut.write_bytes(before[cut][:-8])
    (candidates / "a.safetensors.1.partial").write_text("cut off")
    assert _call(folder, searched, "--parameters", "0.96") == 0
    assert "candidates: 3 to train" in capsys.readouterr().out
    assert not list(searched.rglob("*.partial"))
    # not the same bytes: sums may depend on where arrays lie in memory
    assert all(path.stat().st_size == len(content) for path, content in before.items())


def _weights(record):
    return record.with_suffix(".safetensors")


def test_a_killed_assembly_loses_the_part_in_hand(folder, searched, few, capsys, monkeypatch):
    trained = []

    def train(replacement, *others):
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(replacement.part.outputs)

    report = json.loads((searched / "report.json").read_text())
    least = {}
    for row in report["candidates"]:
        if row["loss"] is not None:
            least[row["position"]] = min(row["parameters"], least.get(row["position"], 0))
    replaced = sum(value < 0 for value in least.values())
    share = 1.000001 + sum(least.values()) / report["original"]["parameters"]
    with monkeypatch.context() as patch:
        patch.setattr(assembly, "train_part", train)
        assert _call(folder, searched, "--parameters", str(share)) == 130
    assert capsys.readouterr().out.count("finishing ") == 2 <= replaced
    assert not (searched / f"parameters{share:g}.safetensors").exists()
    assert _call(folder, searched, "--parameters", str(share)) == 0
    assert (searched / f"parameters{share:g}.safetensors").exists()
    assert capsys.readouterr().out.count("finishing ") == replaced - 1


def test_a_part_that_diverges_at_the_end_keeps_its_weights(
    folder, searched, few, caplog, monkeypatch
):
    def train(replacement, *others):
        for parameter in replacement.part.parameters():
            parameter.data.fill_(float("nan"))
        raise FloatingPointError("the loss is not finite")

    monkeypatch.setattr(assembly, "train_part", train)
    assert _call(folder, searched, "--parameters", "0.971") == 0
    assert "the loss is not finite: not finished, it keeps its weights" in caplog.text
    detector = load_detector(searched / "parameters0.971.safetensors")
    assert all(torch.isfinite(value).all() for value in detector.state_dict().values())


def test_a_detector_that_is_there_keeps_its_choice(folder, searched, few, capsys, monkeypatch):
    before = (searched / "parameters0.97.safetensors").read_bytes()
    monkeypatch.setattr(front, "choose_point", None)
    monkeypatch.setattr(front, "front", lambda *_: [])
    monkeypatch.setattr("igcv3det.tasks.compress.report.draw_front", lambda *_: None)
    assert _call(folder, searched, "--parameters", "0.97") == 0
    assert (searched / "parameters0.97.safetensors").read_bytes() == before
    assert set(_row(searched, "parameters0.97")["replaced"]) == _replaced(
        searched, "parameters0.97"
    )


def _row(output, name):
    """What the report says of a network."""
    rows = json.loads((output / "report.json").read_text())["detectors"]
    (row,) = [row for row in rows if row["name"] == name]
    return row


def _replaced(output, name):
    """The replacements in a file, by its record."""
    record = json.loads((output / "work" / "detectors" / f"{name}.json").read_text())
    return {p for p, key in record["chosen"].items() if key != f"{p}-original"}


@pytest.mark.parametrize("is_lost", [False, True])
def test_the_report_is_on_the_detector_that_is_there(folder, searched, few, is_lost):
    files = [searched / "work" / "prices-torch-1.json"]
    if is_lost:  # what its candidates were worth
        files += (searched / "work" / "candidates").glob("*.json")
    kept = {path: path.read_bytes() for path in files}
    # as if timing anew had made its candidates dearer than the original
    values = json.loads(kept[files[0]])
    for key in set(values) - {key for key in values if key.endswith("-original")}:
        values[key] = [abs(value) + 1 for value in values[key]]
    files[0].write_text(json.dumps(values))
    for path in files[1:]:
        path.unlink()
    try:
        assert _call(folder, searched, "--parameters", "0.95") == 0
    finally:
        for path, content in kept.items():
            path.write_bytes(content)
    row = _row(searched, "parameters0.95")
    assert set(row["replaced"]) == _replaced(searched, "parameters0.95")
    assert row["predicted"]["parameters"] > 1
    assert row["loss"] is None if is_lost else row["loss"] > 0
    assert ("| not known |" in (searched / "report.md").read_text()) == is_lost


def test_a_latency_that_is_not_met_is_said(folder, searched, few, capsys, monkeypatch):
    monkeypatch.setattr(front, "measured_shares", lambda _, points: [0.996] * len(points))
    # what is there already is measured too
    for latency, is_said in (("0.987", False), ("0.9", True)):
        name = f"latency{latency}-parameters0.95"
        for suffix in ("safetensors", "json"):
            own = searched if suffix == "safetensors" else searched / "work" / "detectors"
            shutil.copy(own / f"parameters0.95.{suffix}", own / f"{name}.{suffix}")
        budgets = ["--latency", latency, "--parameters", "0.95"]
        assert _call(folder, searched, *budgets) == 0
        said = f"latency {latency}: not met, measured 0.996" in capsys.readouterr().err
        assert said == is_said
        assert (searched / f"{name}.safetensors").exists()


def test_a_smaller_input(folder, few, tmp_path, capsys, monkeypatch):
    """A budget of multiply-adds below what the parts alone can reach at the detector's own size."""
    detector = small_detector(MOBILENETV2)
    for name, bias in detector.head.named_parameters():
        if "classification" in name and bias.shape == (6 * 3,):
            bias.data.normal_(std=0.5)  # a fresh network finds nothing
    save_detector(detector, tmp_path / "model.safetensors")
    budget = ["--checkpoint", str(tmp_path / "model.safetensors"), "--multiply-adds", "0.9"]
    monkeypatch.setattr(agreement, "IMAGES", 6)
    monkeypatch.setattr(agreement, "VIEWS", (1.0,))
    output = tmp_path / "out"
    assert _call(folder, output, *budget, "--image-size", "64", "56", "60") == 0
    printed = capsys.readouterr().out
    assert "multiply-adds0.9: at 56 px agreement 0." in printed
    (row,) = json.loads((output / "report.json").read_text())["detectors"]
    assert {"56", "60"} <= set(row["agreement"]) <= {"56", "60", "64"}
    found = load_detector(output / "multiply-adds0.9.safetensors")
    side = found.config.image_size
    assert row["input"] == [side, side]
    assert row["agreement"][str(side)] == max(row["agreement"].values())
    assert found.config.trained_size == 64
    assert f"| {side}x{side} |" in (output / "report.md").read_text()
    assert "## Input sizes" in (output / "report.md").read_text()
    own = count_multiply_adds(detector, (1, 3, 64, 64))
    share = count_multiply_adds(found, (1, 3, side, side)) / own
    assert share == pytest.approx(row["predicted"]["multiply_adds"])
    assert share <= 0.9
    monkeypatch.setattr(front, "choose_point", None)  # what is there is kept, its size too
    monkeypatch.setattr(front, "front", lambda *_: [])
    monkeypatch.setattr("igcv3det.tasks.compress.report.draw_front", lambda *_: None)
    assert _call(folder, output, *budget, "--image-size", "60", "64", "56", "60") == 0
    (again,) = json.loads((output / "report.json").read_text())["detectors"]
    assert again | {"measured_latency": row["measured_latency"]} == row
    assert _call(folder, output, *budget) == 1
    assert "made with --image-size [56, 60, 64], not None; move it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image-count", "30"], "holds another search (image_count 512, not 30)"),
        (["--steps", "3"], "holds another search (steps 2, not 3)"),
        (["--finish-steps", "2"], "parameters0.97.safetensors: made with --finish-steps 1, not 2;"),
        (["--threads", "2"], "parameters0.97.safetensors: made with --threads 1, not 2; move"),
        (["--parameters", "0.02"], "parameters 0.02: no combination is that small; the least is"),
    ],
)
def test_other_options_in_the_same_folder(folder, searched, few, arguments, message, capsys):
    files = {path: path.stat().st_mtime_ns for path in searched.glob("*.*")}
    assert _call(folder, searched, "--parameters", "0.97", *arguments) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert "to train" not in captured.out
    assert {path: path.stat().st_mtime_ns for path in searched.glob("*.*")} == files


def test_sigterm_ends_it_as_an_interrupt_does(folder, searched, few, capsys, monkeypatch):
    monkeypatch.setattr(Search, "run", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert _call(folder, searched, "--parameters", "0.94") == 143
    assert "compress: ended by SIGTERM" in capsys.readouterr().err


def test_networks_of_earlier_calls_stay_in_the_report(folder, searched, few):
    assert _call(folder, searched, "--parameters", "0.97", "0.95") == 0
    rows = [_row(searched, name) for name in ("parameters0.97", "parameters0.95")]
    assert _call(folder, searched, "--parameters", "0.96") == 0
    assert [_row(searched, row["name"]) for row in rows] == rows
    text = (searched / "report.md").read_text()
    assert all(f"| {n} | 64x64 | torch, 1 |" in text for n in ("parameters0.97", "parameters0.96"))
    (searched / "parameters0.96.safetensors").unlink()
    report = json.loads((searched / "report.json").read_text())
    for key in ("predicted", "replaced", "agreement"):  # a damaged report is written anew
        rows = [{k: v for k, v in row.items() if k != key} for row in report["detectors"]]
        (searched / "report.json").write_text(json.dumps(report | {"detectors": rows}))
        assert _call(folder, searched, "--parameters", "0.95") == 0
        rows = json.loads((searched / "report.json").read_text())["detectors"]
        assert [row["name"] for row in rows] == ["parameters0.95"]


def test_a_call_that_writes_nothing_leaves_the_report(folder, searched, few, capsys, monkeypatch):
    assert _call(folder, searched, "--parameters", "0.97") == 0
    before = {path: path.read_bytes() for path in searched.glob("*.*")}
    capsys.readouterr()
    monkeypatch.setattr(InputSizes, "at_most", lambda *_: {"parameters": 1.0})
    assert _call(folder, searched, "--parameters", "0.02") == 1  # not found out before the work
    captured = capsys.readouterr()
    assert "parameters 0.02: no combination is that small; the least is 0." in captured.err
    assert "Tables are in" not in captured.out
    assert {path: path.read_bytes() for path in searched.glob("*.*")} == before


@pytest.mark.parametrize("content", [b"", b"PK not weights"])
def test_a_damaged_network_is_not_reported_as_done(folder, searched, few, capsys, content):
    path = searched / "parameters0.97.safetensors"
    before = path.read_bytes()
    path.write_bytes(content)
    assert _call(folder, searched, "--parameters", "0.97") == 1
    assert "parameters0.97.safetensors: " in (error := capsys.readouterr().err)
    assert "delete it, and it is made again" in error
    path.unlink()
    assert _call(folder, searched, "--parameters", "0.97") == 0
    assert path.stat().st_size == len(before)


@pytest.mark.parametrize("name", ["parameters0.97.safetensors", "front.png", "report.json"])
def test_a_folder_with_the_name_of_a_result(folder, searched, few, capsys, name, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(searched, output)
    (output / name).unlink()
    (output / name).mkdir()
    assert _call(folder, output, "--parameters", "0.97") == 1
    captured = capsys.readouterr()
    assert f"{name}: a folder" in captured.err
    assert "candidates: " not in captured.out  # found before any work


@pytest.mark.parametrize("damage", ["cut", "empty", "missing"])
@pytest.mark.parametrize("name", ["fisher.safetensors", "train/x5.npy", "train/features.json"])
def test_damaged_features_are_made_again(folder, searched, few, capsys, name, damage):
    path = searched / "work" / name
    before = path.read_bytes()
    path.write_bytes(before[: len(before) // 2 if damage == "cut" else 0])
    if damage == "missing":
        path.unlink()
    assert _call(folder, searched, "--parameters", "0.97") == 0
    assert len(path.read_bytes()) == len(before)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("prices-torch-1.json", {"block3-original": [1, 2]}, "expected 3 numbers, got [1, 2]"),
        ("prices-torch-1.json", {"block3-original": [None, 1, 1]}, "expected 3 numbers"),
        ("prices-torch-1.json", {"block3-original": "x"}, "expected 3 numbers, got 'x'"),
        ("original.json", {"torch 1": [1, 2, "3"], "machine": "any"}, "torch 1: expected 3"),
        ("original.json", {"torch 1": [1, 2, 3]}, "no machine"),
        ("detectors/parameters0.97.json", {"made_by": 1}, "made_by: 1"),
        ("detectors/parameters0.97.json", {"agreement": [1]}, "agreement: [1]"),
        ("detectors/parameters0.97.json", {"image_size": "96"}, "image_size: '96'"),
        ("detectors/parameters0.97.json", {"chosen": {}}, "no parts"),
    ],
)
def test_damaged_records_are_named(folder, searched, few, capsys, name, content, message):
    path = searched / "work" / name
    before = path.read_text()
    path.write_text(json.dumps(content))
    try:
        assert _call(folder, searched, "--parameters", "0.97") == 1
    finally:
        path.write_text(before)
    error = capsys.readouterr().err
    assert f"{name}: damaged; delete it" in error
    assert message in error


def test_the_file_that_tells_searches_apart(folder, searched, few, capsys):
    path = searched / "work" / "search.json"
    before = path.read_text()
    try:
        for content in (None, "", "{}", "[1]"):
            path.unlink() if content is None else path.write_text(content)
            assert _call(folder, searched, "--parameters", "0.97") == 1
            assert "search.json: missing or damaged" in (error := capsys.readouterr().err)
            assert "choose another folder" in error
            assert "delete it" not in error
    finally:
        path.write_text(before)


def test_what_killed_processes_leave_is_removed(folder, searched, few):
    left = [searched / "report.json.12.partial", searched / "parameters0.9.safetensors.1.partial"]
    with suppress(RuntimeError), replacing(searched / "report.md") as partial:
        left.append(partial)  # a name as it is given now
        raise RuntimeError
    for path in left:
        path.write_text("cut")
    (searched / "film.mp4.partial").write_text("a user's own")
    (searched / "work" / "timing-abc").mkdir()
    (searched / "work" / "timing-abc" / "network.onnx").write_text("cut")
    assert _call(folder, searched, "--parameters", "0.97") == 0
    assert not any(path.exists() for path in left)
    assert not list((searched / "work").glob("timing-*"))
    assert (searched / "film.mp4.partial").exists()
    (searched / "film.mp4.partial").unlink()


def test_other_weights_or_images_under_the_same_name(folder, searched, few, tmp_path, capsys):
    shutil.copy(folder / "model.safetensors", folder / "kept")
    save_detector(small_detector(MOBILENETV2, seed=1), folder / "model.safetensors")
    assert _call(folder, searched, "--parameters", "0.96") == 1
    assert "holds another search (checkpoint" in capsys.readouterr().err
    preprocess = dataclasses.replace(MOBILENETV2.preprocess, mean=(100.0, 100.0, 100.0))
    config = dataclasses.replace(MOBILENETV2, preprocess=preprocess)
    save_detector(small_detector(config), folder / "model.safetensors")  # of the same weights
    assert _call(folder, searched, "--parameters", "0.96") == 1
    assert "holds another search (configuration" in capsys.readouterr().err
    shutil.move(folder / "kept", folder / "model.safetensors")
    broken = folder / "train2017" / "broken.jpg"
    broken.write_bytes(b"no image either")
    assert _call(folder, searched, "--parameters", "0.96") == 1
    assert "holds another search (sizes of images" in capsys.readouterr().err
    broken.write_bytes(b"no image")


def test_the_same_search_spelled_otherwise(folder, searched, few, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert _call(folder, searched, "--parameters", "0.97") == 0
    decoded = set((searched / "work").glob("images-*.npy"))
    spelled = ["--checkpoint", "model.safetensors", "--images", "./train2017"]
    assert _call(folder, searched, "--parameters", "0.97", *spelled) == 0
    assert set((searched / "work").glob("images-*.npy")) == decoded
    shutil.copytree("train2017", "other")
    write_shapes(folder / "more", train=45, val=1, image_size=64)
    assert _call(folder, searched, "--parameters", "0.97", "--images", "other") == 0
    assert _call(folder, searched, "--parameters", "0.97", "--images", "more/train2017") == 1
    assert "holds another search (images " in capsys.readouterr().err


def test_a_refused_call_leaves_the_folder_to_others(folder, tmp_path, few, capsys):
    images, output = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    found = sorted((folder / "train2017").glob("[!b]*"))
    shutil.copy(found[0], images)
    assert _call(folder, output, "--images", str(images)) == 1
    for path in found[1:]:
        shutil.copy(path, images)
    assert _call(folder, output, "--images", str(images), "--parameters", "0.01") == 1
    assert "parameters 0.01: no combination is that small" in capsys.readouterr().err
    assert _call(folder, output, "--parameters", "0.01", "--steps", "3") == 1
    assert "holds another search" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("candidates/block3-groups_2x2.json", '{"error": ""}'),
    ],
)
def test_damaged_files_are_named(folder, searched, few, name, text, capsys):
    path = searched / "work" / name
    content = path.read_bytes()
    path.write_text(text)
    try:
        assert _call(folder, searched, "--parameters", "0.97") == 1
    finally:
        path.write_bytes(content)
    assert f"{path}: damaged; delete it" in capsys.readouterr().err


def test_budgets_of_one_file_name_are_one_budget(folder, searched, few, capsys):
    assert _call(folder, searched, "--parameters", "0.97", "0.9700001") == 0
    assert capsys.readouterr().out.count("parameters0.97.safetensors: latency") == 1


def test_two_processes_in_one_folder(folder, searched, few, capsys):
    own = WorkFolder(searched / "work")
    assert _call(folder, searched, "--parameters", "0.97") == 1
    assert f"{searched / 'work'}: another process is working there" in capsys.readouterr().err
    own.release()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "packages"),
    [
        ("onnxruntime", ["onnxruntime"]),
        ("openvino", ["openvino"]),
        ("ncnn", ["ncnn", "pnnx"]),
        ("litert", ["ai_edge_litert", "litert_torch"]),
        ("executorch", ["executorch"]),
    ],
)
def test_prices_come_from_the_backend(folder, backend, packages, monkeypatch):
    for package in packages:
        pytest.importorskip(package)
    monkeypatch.setattr(price, "ROUNDS", 3)
    monkeypatch.setattr(DetectorTeacher, "candidates", _few)
    output = folder / backend
    assert _call(folder, output, "--parameters", "0.97", "--backend", backend) == 0
    report = json.loads((output / "report.json").read_text())
    assert report["backend"] == backend
    assert report["original"]["latency"] > 0
    assert report["detectors"][0]["measured_latency"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_prices_in_int8(folder, backend, monkeypatch):
    pytest.importorskip({"onnxruntime": "onnxruntime", "openvino": "nncf"}[backend])
    monkeypatch.setattr(price, "ROUNDS", 3)
    monkeypatch.setattr(DetectorTeacher, "candidates", _few)
    output = folder / f"{backend}-int8"
    budget = ["--parameters", "0.97"]
    assert _call(folder, output, *budget, "--backend", backend, "--precision", "int8") == 0
    report = json.loads((output / "report.json").read_text())
    assert report["backend"] == f"{backend} int8"
    original = json.loads((output / "work" / "original.json").read_text())
    assert original.keys() == {f"{backend} int8 1", "machine"}
    # other prices of the same search need another folder for the same budget
    assert _call(folder, output, *budget, "--backend", backend) == 1


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
    assert "1 images; at least 40 are needed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--latency", "1.5"], "'1.5' is not a share in (0, 1]"),
        (["--image-count", "1"], "must be a whole number >= 2, got '1'"),
        (["--latency", "0.8", "0.7", "--parameters", "0.5", "0.6", "0.7"], "equally many values"),
        (["--grouped-stages", "8"], "numbers from 1 to 7"),
        (["--backend", "tflite"], "invalid choice"),
        (["--precision", "int8"], "--precision int8 needs --backend onnxruntime or openvino"),
    ],
)
def test_wrong_calls(folder, arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        _call(folder, folder / "wrong", *arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_results_among_the_images_are_refused(folder, capsys):
    (folder / "link").symlink_to(folder / "train2017")
    with pytest.raises(SystemExit) as caught:
        _call(folder, folder / "link")
    assert caught.value.code == 2
    assert "--output needs another folder than --images" in capsys.readouterr().err


def test_files_of_other_software_are_refused(folder, tmp_path, capsys):
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    images = str(folder / "train2017")
    output = str(tmp_path / "out")
    assert main(["--checkpoint", str(other), "--images", images, "--output", output]) == 1
    assert "not a file of this package" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
