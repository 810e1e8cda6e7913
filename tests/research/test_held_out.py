import json

from research.held_out import main

CATEGORIES = [{"id": 1, "name": "person"}]


def _file(folder, name, ids, categories=CATEGORIES):
    boxes = [
        {"id": n, "image_id": i, "category_id": 1, "bbox": [0, 0, i, i]} for n, i in enumerate(ids)
    ]
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 9, "height": 9} for i in ids]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (folder / name).write_text(json.dumps(content))
    return str(folder / name)


def _written(folder, *options):
    (folder / "ids.txt").write_text("2\n5\n7\n")
    files = [_file(folder, "a.json", [1, 2, 3]), _file(folder, "b.json", [4, 5])]
    output = folder / "out.json"
    assert main([str(folder / "ids.txt"), *files, "--output", str(output), *options]) == 0
    return json.loads(output.read_text())


def test_images_of_the_list_with_their_boxes(tmp_path):
    found = _written(tmp_path)
    assert [image["id"] for image in found["images"]] == [2, 5]
    assert [(one["image_id"], one["bbox"][2]) for one in found["annotations"]] == [(2, 2), (5, 5)]
    assert len({one["id"] for one in found["annotations"]}) == 2


def test_the_other_images(tmp_path):
    assert [image["id"] for image in _written(tmp_path, "--seen")["images"]] == [1, 3, 4]


def test_other_categories_and_missing_files_are_refused(tmp_path, capsys):
    (tmp_path / "ids.txt").write_text("1")
    other = [{"id": 1, "name": "cat"}]
    files = [_file(tmp_path, "a.json", [1]), _file(tmp_path, "b.json", [2], other)]
    output = ["--output", str(tmp_path / "out.json")]
    assert main([str(tmp_path / "ids.txt"), *files, *output]) == 1
    assert "other categories" in capsys.readouterr().err
    assert main([str(tmp_path / "none.txt"), files[0], *output]) == 1
    assert "none.txt" in capsys.readouterr().err


def test_a_file_that_is_no_coco_file_is_named(tmp_path, capsys):
    (tmp_path / "ids.txt").write_text("1")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "image.json").write_text('{"images": [{"id": 1}], "categories": []}')
    for name, message in (("list.json", "not a list"), ("image.json", "images[0]")):
        words = [str(tmp_path / "ids.txt"), str(tmp_path / name), "--output", str(tmp_path / "o")]
        assert main(words) == 1
        error = capsys.readouterr().err
        assert f"{name}: " in error
        assert message in error


def test_a_word_that_is_no_id_is_named(tmp_path, capsys):
    (tmp_path / "ids.txt").write_text("1 2\nsize 54864\n")
    words = [str(tmp_path / "ids.txt"), _file(tmp_path, "a.json", [1])]
    assert main([*words, "--output", str(tmp_path / "out.json")]) == 1
    assert "ids.txt, line 2: 'size' is no image id" in capsys.readouterr().err
