import logging

import pytest

from igcv3det.engine.arguments import given_values, old_keys, rename_keys, rename_options

RENAMED = {"pictures": "images", "model.old": "model.new"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--pictures", "3"], ["--images", "3"]),
        (["--pictures=3"], ["--images=3"]),
        (["--model.old", "--x"], ["--model.new", "--x"]),
        (["--model.older", "pictures"], ["--model.older", "pictures"]),
    ],
)
def test_options(given, expected):
    assert rename_options(given, RENAMED) == expected


def test_a_renamed_option_is_logged(caplog):
    with caplog.at_level(logging.WARNING):
        rename_options(["--pictures", "3", "--other", "pictures"], RENAMED)
    assert caplog.messages == ["pictures has a new name: images"]


def test_keys():
    content = {"pictures": 3, "model": {"old": 1, "other": {"old": 2}}, "old": 4}
    assert old_keys(content, RENAMED) == ["pictures", "model.old"]
    assert rename_keys(content, RENAMED) == {
        "model": {"other": {"old": 2}, "new": 1},
        "old": 4,
        "images": 3,
    }
    assert content["model"]["old"] == 1  # the given mapping stays
    assert rename_keys({"model": None}, RENAMED) == {"model": None}


def test_both_names_of_a_key_are_refused():
    with pytest.raises(ValueError, match=r"model\.new is given twice.*model\.old"):
        rename_keys({"model": {"old": 1, "new": 2}}, RENAMED)


def test_given_values_are_those_that_count(tmp_path):
    (tmp_path / "a.yaml").write_text("model: {old: 1, size: {x: 1e-3, y: 2}}\npictures: 5")
    (tmp_path / "b.yaml").write_text("model: {size: {y: 3}}")
    args = [
        *("--config", str(tmp_path / "a.yaml")),
        *("-c", str(tmp_path / "b.yaml")),
        *("--model.name", "igcv3", "--model.weights=null", "--model.other", "{z: 4}"),
    ]
    assert given_values(args, RENAMED) == {
        "model.new": 1,
        "model.size.x": 1e-3,
        "model.size.y": 3,
        "images": 5,
        "model.name": "igcv3",
        "model.weights": None,
        "model.other.z": 4,
    }


def test_an_option_without_a_value_takes_no_other():
    assert given_values(["--print_config", "--data.batch_size", "4"], {})["data.batch_size"] == 4
    assert given_values([], {}) == {}


def test_wrong_options_are_left_to_the_parser(tmp_path):
    assert given_values(["--config", str(tmp_path / "absent.yaml"), "--a", "["], RENAMED) == {}
