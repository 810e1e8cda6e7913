"""What ``from igcv3det import NAME`` gives, lazily."""

import ast
from pathlib import Path

import pytest

import igcv3det


def declared():
    """Names by module, as type checkers see them."""
    tree = ast.parse(Path(igcv3det.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {alias.name: node.module for node in block.body for alias in node.names}


def test_names_for_type_checkers_are_those_of_the_package():
    assert {*declared(), "__version__"} == set(igcv3det.__all__) <= set(dir(igcv3det))


@pytest.mark.parametrize(("name", "module"), declared().items())
def test_a_name_is_that_of_its_module(name, module):
    value = getattr(igcv3det, name)
    assert value.__name__ == name
    assert value.__module__.startswith(module)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'igcv3det' has no attribute 'nope'"):
        igcv3det.nope  # noqa: B018
