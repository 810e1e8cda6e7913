import logging
import os

import cv2
import numpy as np
import pytest

from igcv3det.datasets import image_cache
from igcv3det.datasets.image_cache import ImageCache, require_images
from igcv3det.io.images import read_image, write_image


@pytest.fixture
def folders(tmp_path):
    random = np.random.default_rng(0)
    for folder, names in (("a", ("2.png", "1.png")), ("b", ("3.png",))):
        (tmp_path / folder).mkdir()
        for name in names:
            image = random.integers(0, 256, (40, 60, 3), dtype=np.uint8)
            write_image(tmp_path / folder / name, image)
    return [tmp_path / "a", tmp_path / "b"]


def test_squares_in_the_folders_order(folders, tmp_path):
    store = ImageCache(folders, 32, tmp_path / "cache")
    assert [path.name for path in store.paths] == ["1.png", "2.png", "3.png"]
    assert store.pixels.shape == (3, 32, 32, 3)
    for path, pixels in zip(store.paths, store.pixels, strict=True):
        np.testing.assert_array_equal(pixels, cv2.resize(read_image(path), (32, 32)))


def test_the_second_time_nothing_is_decoded(folders, tmp_path, monkeypatch):
    first = ImageCache(folders, 32, tmp_path / "cache")
    monkeypatch.setattr(image_cache, "read_image", None)
    again = ImageCache(folders, 32, tmp_path / "cache")
    np.testing.assert_array_equal(again.pixels, first.pixels)
    assert again.paths == first.paths


def test_another_image_side_or_folder_is_another_store(folders, tmp_path):
    ImageCache(folders, 32, tmp_path / "cache")
    assert ImageCache(folders, 16, tmp_path / "cache").pixels.shape == (3, 16, 16, 3)
    assert len(ImageCache(folders[:1], 32, tmp_path / "cache")) == 2
    write_image(folders[0] / "1.png", np.zeros((10, 11, 3), np.uint8))
    assert ImageCache(folders, 32, tmp_path / "cache").pixels[0].max() == 0


def test_unreadable_images_are_left_out_and_named(folders, tmp_path, caplog):
    (folders[0] / "1.png").write_bytes(b"no image")
    with caplog.at_level(logging.WARNING):
        store = ImageCache(folders, 32, tmp_path / "cache")
    assert [path.name for path in store.paths] == ["2.png", "3.png"]
    assert store.pixels.shape[0] == 2
    np.testing.assert_array_equal(store.pixels[1], cv2.resize(read_image(store.paths[1]), (32, 32)))
    assert "1.png" in caplog.text
    assert store.unreadable == 1


def test_links_to_nothing_are_left_out_and_names_may_have_any_bytes(folders, tmp_path, caplog):
    link, name = folders[0] / "0.png", os.fsdecode(b"caf\xe9.png")
    link.symlink_to("nowhere.png")
    (folders[1] / "3.png").rename(folders[1] / name)
    with caplog.at_level(logging.WARNING):
        store = ImageCache(folders, 32, tmp_path / "cache")
    assert [path.name for path in store.paths] == ["1.png", "2.png", name]
    assert store.unreadable == 1
    assert f"left out: {link}: no such file" in caplog.text
    write_image(folders[0] / "nowhere.png", np.zeros((10, 11, 3), np.uint8))  # the link's image
    assert len(ImageCache(folders, 32, tmp_path / "cache")) == 5


def test_of_many_images_only_some_are_decoded(folders, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(
        image_cache, "read_image", lambda path: read.append(path) or read_image(path)
    )
    store = ImageCache(folders, 32, tmp_path / "cache", most=2)
    assert len(store) == len(set(store.paths)) == len(read) == 2
    for path, pixels in zip(store.paths, store.pixels, strict=True):
        np.testing.assert_array_equal(pixels, cv2.resize(read_image(path), (32, 32)))
    again = ImageCache(folders, 32, tmp_path / "cache", most=2)
    assert again.paths == store.paths
    assert len(ImageCache(folders, 32, tmp_path / "cache", most=9)) == 3


def test_others_take_the_place_of_unreadable_images(folders, tmp_path):
    drawn = ImageCache(folders, 32, tmp_path / "cache", most=2).paths
    drawn[0].write_bytes(b"no image")
    store = ImageCache(folders, 32, tmp_path / "cache", most=2)
    assert len(store) == 2
    assert store.unreadable == 1
    assert store.paths[0] == drawn[1]
    for path, pixels in zip(store.paths, store.pixels, strict=True):
        np.testing.assert_array_equal(pixels, cv2.resize(read_image(path), (32, 32)))
    # those that are drawn later count as well
    write_image(store.paths[1], np.zeros((10, 11, 3), np.uint8))
    assert ImageCache(folders, 32, tmp_path / "cache", most=2).pixels[1].max() == 0
    store.paths[1].write_bytes(b"no image")
    store = ImageCache(folders, 32, tmp_path / "cache", most=2)
    assert (len(store), store.unreadable) == (1, 2)


def test_an_interrupted_decoding_starts_again(folders, tmp_path, monkeypatch):
    def dies(path, size=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(image_cache, "read_image", dies)
        with pytest.raises(KeyboardInterrupt):
            ImageCache(folders, 32, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    assert len(ImageCache(folders, 32, tmp_path / "cache")) == 3


def test_large_images_are_averaged(tmp_path):
    # a checkerboard of single pixels is grey from afar
    board = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    write_image(tmp_path / "board.png", np.repeat(board[..., None], 3, axis=2))
    pixels = ImageCache([tmp_path], 32, tmp_path / "cache").pixels
    assert np.abs(pixels.astype(int) - 127.5).max() <= 1


def test_folders_without_images(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        ImageCache([tmp_path / "none"], 32, tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(FileNotFoundError, match="holds no image"):
        require_images(tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match="none of its images"):
        ImageCache([tmp_path], 32, tmp_path / "cache")
