"""One reading of YAML for all tools: that of the training's parser, jsonargparse."""

import pytest
from jsonargparse import ArgumentParser

from igcv3det.yaml_files import dump_yaml, parse_yaml, read_yaml

SCALARS = [
    *("1e-3", "1E5", "-1e-3", ".5", ".5e-3", "5.", "+1.5", "1_000", "-.inf", "e3", "1e", "1.5.2"),
    *("012", "0x1F", "yes", "on", "~", "null", "2026-01-01", "'1e-3'", "1e3x"),
]


@pytest.mark.parametrize("text", SCALARS)
def test_it_reads_what_training_reads(text):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--held", type=dict)
    theirs = parser.parse_string(f"held: {{a: {text}}}").held["a"]
    assert repr(parse_yaml(f"a: {text}")["a"]) == repr(theirs)


@pytest.mark.parametrize("value", [1e-3, "1e-3", "1.0", 1.0, float("inf"), "yes", True, None, "ü"])
def test_a_dump_is_read_back(value):
    assert repr(parse_yaml(dump_yaml({"a": [value]}))) == repr({"a": [value]})


def test_errors_name_the_file_and_the_place(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text("a: 1\nb: [")
    with pytest.raises(ValueError, match=r"wrong\.yaml: not readable as YAML: .*line 2"):
        read_yaml(path)
    path.write_bytes(b"a: \xff")
    with pytest.raises(ValueError, match=r"wrong\.yaml: not readable as YAML"):
        read_yaml(path)
    with pytest.raises(FileNotFoundError, match=r"absent\.yaml: no such file"):
        read_yaml(tmp_path / "absent.yaml")


def test_deep_nesting_is_an_error_of_the_file(tmp_path):
    (tmp_path / "deep.yaml").write_text("[" * 5000 + "]" * 5000)
    with pytest.raises(ValueError, match=r"deep\.yaml: not readable as YAML: nested too deeply"):
        read_yaml(tmp_path / "deep.yaml")


def test_a_byte_order_mark_is_no_content(tmp_path):
    (tmp_path / "a.yaml").write_bytes("\ufeffa: 1".encode())
    assert read_yaml(tmp_path / "a.yaml") == {"a": 1}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_byte_order_mark_names_the_encoding(tmp_path, encoding):
    (tmp_path / "a.yaml").write_bytes("names: [Café]\r\n".encode(encoding))
    assert read_yaml(tmp_path / "a.yaml") == {"names": ["Café"]}


def test_text_of_another_encoding_than_its_mark_says_is_named(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfea\x00:\x00 \x00\x00\xd8")
    with pytest.raises(ValueError, match=r"a\.yaml: .*line 1 is not text in UTF-16; save it as"):
        read_yaml(tmp_path / "a.yaml")
