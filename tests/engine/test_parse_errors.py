"""The texts are jsonargparse 4.53's."""

import pytest

from igcv3det.engine.parse_errors import readable_reason

UNION = "Does not validate against any of the Union subtypes\nSubtypes: [...]\nErrors:\n"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("no such option", "no such option"),
        (
            "Parser key \"a.b\": Expected a typing.Literal['sgd', 'muon']. Got value: foo",
            "a.b: expected one of 'sgd', 'muon', got foo",
        ),
        (
            f"Parser key \"a.b\": {UNION}  - Expected a <class 'int'>\n"
            "  - Expected a <class 'NoneType'>\n  Given value type: <class 'str'>\n"
            "  Given value: x",
            "a.b: expected int or null, got x",
        ),
        (
            f"{UNION}    - Expected a <class 'int'>\n    - Expected a <class 'NoneType'>\n"
            "    Given value: x",  # a deeper key
            "expected int or null, got x",
        ),
        (
            f"{UNION}  - Problem with given class_path 'loggers.WandbLogger':\n"
            "      Requirement 'wandb>=1' not met.\n  - Expected a <class 'bool'>\n"
            "Given value type: <class 'Namespace'>\nGiven value: Namespace(...)",
            "Problem with given class_path 'loggers.WandbLogger': Requirement 'wandb>=1' not met.",
        ),
        (
            f"{UNION}  - Not a valid subclass of Logger. Got value: [Namespace(...)]\n"
            "    Subclass types expect one of:\n    - a class path (str)\n"
            "  - The file store needs MLFLOW_ALLOW_FILE_STORE\n  - Expected a <class 'bool'>\n"
            "Given value type: <class 'list'>\nGiven value: [Namespace(...)]",
            "The file store needs MLFLOW_ALLOW_FILE_STORE",
        ),
    ],
)
def test_the_reason_is_one_sentence(message, expected):
    assert readable_reason(message) == expected
