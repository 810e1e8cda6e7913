import json

from research import camvid


def finish(runs, row, seed, miou):
    folder = row.folder(runs, seed)
    folder.mkdir(parents=True)
    result = {"mIoU": miou, "pixel_accuracy": 0.9, "per_class": {"sky": miou, "pole": 0.0}}
    costs = {"parameters": 2000, "multiply_adds": 3_000_000}
    (folder / "result.json").write_text(json.dumps({**result, **costs}))


def test_first_seeds_come_before_second_ones_and_scratch_last():
    found = [(row.name, seed) for row, seed in camvid.planned()]
    assert found[:4] == [("MobileNetV2", 0), ("IGCV3-D", 0), ("searched-90", 0), ("MobileNetV2", 1)]
    assert [name for name, _ in found[-2:]] == [
        "MobileNetV2, from scratch",
        "IGCV3-D, from scratch",
    ]


def test_the_table_has_what_is_finished(tmp_path):
    rows = {row.name: row for row in camvid.ROWS}
    finish(tmp_path, rows["MobileNetV2"], 0, 0.5)
    finish(tmp_path, rows["MobileNetV2"], 1, 0.6)
    finish(tmp_path, rows["IGCV3-D"], 1, 0.25)
    text = camvid.markdown(camvid.results(tmp_path), {"mobilenetv2": 12.34})
    assert "| MobileNetV2 | 2 | 0.550 (0.500 to 0.600) |" in text
    assert "| 2,000 | 3 M | 12.3 |" in text
    assert "| IGCV3-D | 1 | 0.250 | 0.900 | 2,000 | 3 M | not measured |" in text
    assert "| searched-90 | 0 | not measured |" in text
    assert "| class | MobileNetV2 | IGCV3-D |" in text
    assert "| sky | 0.550 | 0.250 |" in text


def test_finished_runs_are_not_repeated(tmp_path, capsys):
    for row, seed in camvid.planned():
        finish(tmp_path / "runs", row, seed, 0.5)
    assert camvid.main(["--data", str(tmp_path / "absent"), "--output", str(tmp_path)]) == 0
    assert str(tmp_path / "table.md") in capsys.readouterr().out


def test_what_is_missing_is_named(tmp_path, capsys):
    assert camvid.main(["--data", str(tmp_path / "absent"), "--output", str(tmp_path)]) == 1
    assert "absent: no such folder" in capsys.readouterr().err
