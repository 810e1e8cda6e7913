"""Damaged image and video files are read, or refused by an error that names them."""

import random

import cv2
import numpy as np
import pytest
from PIL import Image, features

from igcv3det.io.images import ImageReadError, read_image
from igcv3det.io.png import png_damage
from igcv3det.io.videos import VideoWriter, read_video

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
FORMATS = ["a.png", "a.jpg", "a.webp", "a.gif", "a.bmp", "a.tif", "a.jp2", "a.ppm"]
FORMATS += ["a.avif"] if features.check("avif") else []


def mutated(data, rng):
    """The bytes with one kind of damage: flipped bits, a cut, zeros, a copy or an exchange."""
    data = bytearray(data)
    kind, at, length = rng.randrange(5), rng.randrange(len(data)), rng.randrange(1, 64)
    if kind == 0:
        for _ in range(rng.randrange(1, 20)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        data[at : at + length] = bytes(length)
    elif kind == 3:
        data[at:at] = data[at : at + length]
    else:
        other = rng.randrange(len(data))
        data[at : at + length], data[other : other + length] = (
            data[other : other + length],
            data[at : at + length],
        )
    return bytes(data)


def check(path, read):
    """Reads a file: it gives RGB images, or an error of one line that names it."""
    reason = None
    try:
        images = read()
    except ImageReadError as error:
        reason = str(error)
    if reason is None:
        for image in images:
            assert (image.dtype, image.ndim, image.shape[2]) == (np.uint8, 3, 3)
    else:
        assert reason.startswith(str(path))
        assert "\n" not in reason


@pytest.mark.parametrize("rounds", [12, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FORMATS)
def test_mutated_images(tmp_path, name, rounds):
    path, rng = tmp_path / name, random.Random(name)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(path, **({} if name in ("a.bmp", "a.ppm") else {"exif": exif}))
    whole = path.read_bytes()
    for _ in range(rounds):
        path.write_bytes(mutated(whole, rng))
        check(path, lambda: [read_image(path)])
        check(path, lambda: [read_image(path, PIXELS.shape[:2])])


def test_pngs_that_are_refused_before_they_are_decoded_cannot_be_decoded(tmp_path):
    path, rng = tmp_path / "a.png", random.Random(0)
    Image.fromarray(PIXELS).save(path)
    whole, kinds = path.read_bytes(), set()
    for _ in range(200):
        data = mutated(whole, rng)
        damage = png_damage(data)
        if data and damage:
            assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is None
        kinds.add(damage)
    assert png_damage(whole) is None
    assert kinds >= {"cut off", "damaged"}


@pytest.mark.parametrize("rounds", [4, pytest.param(200, marks=pytest.mark.slow)])
def test_mutated_videos(tmp_path, rounds):
    path, rng = tmp_path / "a.mp4", random.Random(0)
    with VideoWriter(path, 10) as video:
        for level in range(5):
            video.write(np.full((32, 48, 3), 50 * level, np.uint8))
    whole = path.read_bytes()
    for _ in range(rounds):
        path.write_bytes(mutated(whole, rng))
        check(path, lambda: [frame.image for frame in read_video(path)])
