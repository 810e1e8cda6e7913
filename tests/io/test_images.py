import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from synthetic import BACKGROUND, EXIF_ORIENTATION, IMAGES, write_coco

from igcv3det.io.images import ImageReadError, ImageSizeError, read_image, write_image

IMAGE = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
IMAGE = cv2.resize(IMAGE, (40, 30))


def save(path, pixels=IMAGE, mode=None, **options):
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def save_turned(path, orientation, pixels=IMAGE):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    return save(path, pixels, exif=exif)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
def test_lossless_kinds_come_back_exactly(tmp_path, name):
    image = read_image(save(tmp_path / name))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, IMAGE)


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("L", "grey.png"),
        ("L", "grey.jpg"),
        ("CMYK", "cmyk.jpg"),
        ("P", "palette.png"),
        ("P", "palette.gif"),
        ("RGBA", "alpha.png"),
        ("1", "bits.png"),
        ("RGB", "lossy.webp"),
    ],
)
def test_other_kinds_agree_with_pillow(tmp_path, mode, name):
    path = save(tmp_path / name, mode=mode)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB")).astype(int)
    found = read_image(path)
    assert found.shape == IMAGE.shape
    # decoders round the conversion from CMYK and YCbCr differently
    assert np.abs(found - expected).max() <= 2


def test_sixteen_bits_keep_the_upper_eight(tmp_path):
    deep = np.array([[0, 255, 256, 65535]], dtype=np.uint16)
    assert cv2.imwrite(str(tmp_path / "deep.png"), deep)
    assert read_image(tmp_path / "deep.png")[0, :, 0].tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_orientation_is_applied_as_viewers_do(tmp_path, orientation, name):
    path = save_turned(tmp_path / name, orientation)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image)).astype(int)
    found = read_image(path)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 2


def test_annotated_size_decides_on_the_turn(tmp_path):
    path = save_turned(tmp_path / "a.png", 6)
    np.testing.assert_array_equal(read_image(path, size=(30, 40)), IMAGE)
    np.testing.assert_array_equal(read_image(path, size=(40, 30)), np.rot90(IMAGE, -1))


@pytest.mark.parametrize(
    ("orientation", "pixels"),
    [(3, IMAGE), (2, IMAGE), (6, IMAGE[:30, :30])],
    ids=["half turn", "mirrored", "square"],
)
def test_pixels_stay_as_stored_where_the_size_cannot_tell(tmp_path, orientation, pixels):
    path = save_turned(tmp_path / "a.png", orientation, pixels)
    np.testing.assert_array_equal(read_image(path, size=pixels.shape[:2]), pixels)


def test_other_size_is_refused(tmp_path):
    path = save(tmp_path / "a.png")
    with pytest.raises(ImageSizeError, match=r"a\.png.* 40 x 30 .*width 50, height 30"):
        read_image(path, size=(30, 50))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.7])
def test_cut_off_file_is_refused(tmp_path, name, share):
    path = save(tmp_path / name)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ImageReadError, match=name):
        read_image(path)


def test_missing_file_folder_and_text_are_refused(tmp_path):
    (tmp_path / "text.jpg").write_text("not an image")
    with pytest.raises(ImageReadError, match=r"none\.jpg: no such file"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(ImageReadError, match="cannot be read"):
        read_image(tmp_path)
    with pytest.raises(ImageReadError, match=r"text\.jpg: not an image"):
        read_image(tmp_path / "text.jpg")


def test_names_beyond_ascii(tmp_path):
    write_image(tmp_path / "Straße.png", IMAGE)
    np.testing.assert_array_equal(read_image(str(tmp_path / "Straße.png")), IMAGE)


def test_write_refuses_unknown_endings(tmp_path):
    with pytest.raises(ValueError, match=r"a\.doc"):
        write_image(tmp_path / "a.doc", IMAGE)


def test_synthetic_images_show_their_boxes(tmp_path):
    paths = write_coco(tmp_path)
    entries = {entry["id"]: entry for entry in paths.content["images"]}
    assert len(entries) == len(IMAGES)
    for annotation in paths.content["annotations"]:
        entry = entries[annotation["image_id"]]
        size = entry["height"], entry["width"]
        image = read_image(paths.images / entry["file_name"], size=size).astype(int)
        left, top, width, height = annotation["bbox"]
        inside = image[top + 2 : top + height - 2, left + 2 : left + width - 2]
        assert np.abs(inside - inside[0, 0]).max() < 12, entry["file_name"]
        assert np.abs(inside[0, 0] - BACKGROUND).max() > 40, entry["file_name"]
