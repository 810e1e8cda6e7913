"""The command that trains a compressed network as a whole, as a shell takes it."""

import dataclasses
import shlex
from pathlib import Path

import pytest
from tasks.compress.networks import MOBILENETV2, explicit_of

pytest.importorskip("scipy")
from igcv3det.tasks.compress.detector_teacher import DetectorTeacher
from igcv3det.yaml_files import parse_yaml


def _words(size, count, images="photos", file="out/a.safetensors", checkpoint="teacher.ckpt"):
    config = dataclasses.replace(MOBILENETV2, image_size=size)
    teacher = DetectorTeacher(explicit_of(config), checkpoint)
    return shlex.split(teacher.final_command(Path(file), ["stem", "stage1"], images, count))


def _option(words, name):
    return words[words.index(name) + 1] if name in words else None


@pytest.mark.parametrize(("count", "held_out"), [(40, "8"), (135, "27"), (136, None), (5000, None)])
def test_of_few_images_a_fifth_is_held_out(count, held_out):
    # distill/compressed.yaml holds 128 out and has batches of 8
    assert _option(_words(300, count), "--data.held_out") == held_out


@pytest.mark.parametrize(("size", "option"), [(300, None), (64, "64"), (320, "320")])
def test_crops_have_the_detectors_input_size(size, option):
    words = _words(size, 5000)
    assert _option(words, "--data.side") == _option(words, "--data.crop.size") == option


@pytest.mark.parametrize("name", ["photos", "my photos", "a, b", "it's", '"x" [1]', "1e3", "é #1"])
def test_any_name_comes_through_the_shell(name):
    words = _words(300, 5000, images=name, file=f"{name}/a.safetensors", checkpoint=f"{name}.ckpt")
    assert parse_yaml(_option(words, "--data.folders")) == [name]
    assert _option(words, "--model.weights") == f"{name}/a.safetensors"
    assert _option(words, "--model.teacher") == f"{name}.ckpt"
    assert parse_yaml(_option(words, "--model.distillation.frozen")) == ["stem", "stage1"]
