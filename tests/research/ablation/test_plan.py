"""Plans: settings of an experiment, errors, and the hash of a run."""

import copy

import pytest
import yaml
from tiny_classification import SETTINGS

from research.ablation.plan import data_fingerprint, read_plan, run_hash

PLAN = {
    "title": "Tiny",
    "seeds": [0, 1],
    "comparison_groups": {"p": "With and without P1"},
    "base": SETTINGS,
    "experiments": {
        "with P1": {"comparison_groups": ["p"]},
        "without P1": {
            "comparison_groups": ["p"],
            "changes": {"model.classifier.backbone.p1": False, "trainer.gradient_clip_val": 1.0},
        },
    },
}


def write(folder, **changes):
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(copy.deepcopy(PLAN) | changes, sort_keys=False))
    return path


def test_settings_are_the_base_with_the_changes(tmp_path):
    plan = read_plan(write(tmp_path))
    plain, changed = plan.experiments
    assert plan.settings(plain) == SETTINGS
    settings = plan.settings(changed)
    assert settings["model"]["classifier"]["backbone"].pop("p1") is False
    assert settings["trainer"].pop("gradient_clip_val") == 1.0
    assert settings == SETTINGS
    assert changed.slug == "without-p1"
    assert plan.classifier(changed).backbone.p1 is False


def test_selecting_experiments(tmp_path):
    plan = read_plan(write(tmp_path))
    assert plan.only([]) == plan.experiments
    assert plan.only(["without P1"]) == plan.experiments[1:]
    with pytest.raises(ValueError, match=r"no experiment \['P3'\]; it has \['with P1'"):
        plan.only(["P3"])


def test_data_overrides_the_root(tmp_path):
    assert read_plan(write(tmp_path), "there.zip").base["data"]["root"] == "there.zip"


def _row(**entry):
    return {"experiments": {"row": {"comparison_groups": ["p"], **entry}}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1}, "a plan needs exactly the fields"),
        ({"seeds": []}, "seeds must be different whole numbers"),
        ({"seeds": [1, 1]}, "seeds must be different"),
        ({"seeds": 3}, "seeds must be different whole numbers, got 3"),
        ({"base": {"model": {}}}, "base must be a mapping"),
        ({"comparison_groups": ["p"]}, "comparison_groups and experiments must be mappings"),
        ({"experiments": ["row"]}, "comparison_groups and experiments must be mappings"),
        ({"experiments": {"row": ["p"]}}, "experiment 'row' must be a mapping"),
        (
            _row(comparison_groups=["q"]),
            r"row.*must be among \['p'\], got \['q'\]",
        ),
        (_row(comparison_groups=[]), "comparison_groups must be among"),
        (_row(colour=1), r"row.*has no field \['colour'\]"),
        (_row(changes={"modell.x": 1}), "changes must begin with"),
        (_row(changes={"model.classifier.backbone.wide": 1}), r"row.*has no field \['wide'\]"),
        (_row(changes={"model.classifier.backbone.super_channels": 3}), "row.*super_channels=3"),
        (
            {"experiments": {"a b": PLAN["experiments"]["with P1"], "A-b": None}},
            "must be among",
        ),
        ({"experiments": {n: PLAN["experiments"]["with P1"] for n in ("a b", "a-b")}}, "folders"),
    ],
)
def test_errors_name_the_file(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_plan(write(tmp_path, **changes))
    assert "plan.yaml" in str(caught.value)


def test_the_hash_depends_on_settings_seed_and_images(tmp_path):
    plan = read_plan(write(tmp_path))
    settings = plan.settings(plan.experiments[0])
    same = copy.deepcopy(settings)
    same["data"] |= {"root": "elsewhere", "cache": "c", "num_workers": 7}
    same["save_every_n_steps"] = 9
    known = run_hash(settings, 0, "images")
    assert run_hash(same, 0, "images") == known
    changed = copy.deepcopy(settings)
    changed["trainer"]["max_epochs"] += 1
    assert run_hash(changed, 0, "images") != known
    assert run_hash(settings, 1, "images") != known
    assert run_hash(settings, 0, "others") != known


def test_old_keys_of_a_plan_are_accepted(tmp_path, caplog):
    text = write(tmp_path).read_text()
    expected = read_plan(tmp_path / "plan.yaml")
    (tmp_path / "plan.yaml").write_text(text.replace("comparison_groups", "questions"))
    assert read_plan(tmp_path / "plan.yaml") == expected
    assert caplog.messages == ["questions has a new name: comparison_groups"]


def test_results_from_before_conv_impl_was_renamed_keep_their_hash():
    new = {"model": {"conv_impl": "fast"}, "data": {}, "trainer": {}}
    old = {"model": {"execution": "fast"}, "data": {}, "trainer": {}}
    assert run_hash(new, 0, "images") == run_hash(old, 0, "images")


def test_fingerprint_of_synthetic_images():
    assert data_fingerprint(SETTINGS) == "shapes (24, 12)"
