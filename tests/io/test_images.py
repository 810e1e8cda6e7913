"""Image files come back as viewers show them, or as they are stored; bad files are refused."""

import errno
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps, features
from synthetic import BACKGROUND, EXIF_ORIENTATION, IMAGES, write_coco

from igcv3det.datasets.image_sizes import read_size
from igcv3det.io.images import (
    EXTENSIONS,
    ImageReadError,
    ImageSizeError,
    decode_image,
    read_image,
    write_image,
)

IMAGE = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
IMAGE = cv2.resize(IMAGE, (40, 30))


needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
ORIENTED_NAMES = ["a.jpg", "a.png", "a.tif", "a.webp", pytest.param("a.avif", marks=needs_avif)]


def save(path, pixels=IMAGE, mode=None, **options):
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def save_oriented(path, orientation, pixels=IMAGE):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    lossless = {".webp": {"lossless": True}, ".avif": {"quality": 100, "subsampling": "4:4:4"}}
    return save(path, pixels, exif=exif, **lossless.get(path.suffix, {}))


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
def test_lossless_formats_come_back_exactly(tmp_path, name):
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
def test_other_formats_agree_with_pillow(tmp_path, mode, name):
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
@pytest.mark.parametrize("name", ORIENTED_NAMES)
def test_orientation_is_applied_as_viewers_do(tmp_path, orientation, name):
    path = save_oriented(tmp_path / name, orientation)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image)).astype(int)
    found = read_image(path)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 2


@pytest.mark.parametrize("name", ORIENTED_NAMES)
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_size_in_the_header_is_that_of_the_image(tmp_path, orientation, name):
    path = save_oriented(tmp_path / name, orientation)
    assert read_size(path) == read_image(path).shape[:2]


@pytest.mark.parametrize("alpha", [0, 100, 255])
@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}], ids=["raw", "LZW"])
def test_transparency_of_a_tiff_is_dropped(tmp_path, alpha, options):
    pixels = np.dstack([IMAGE, np.full(IMAGE.shape[:2], alpha, np.uint8)])
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.tif", pixels, **options)), IMAGE)


@pytest.mark.parametrize("name", ["a.png", "a.tif", pytest.param("a.avif", marks=needs_avif)])
def test_annotated_size_decides_on_the_orientation(tmp_path, name):
    path = save_oriented(tmp_path / name, 6)
    stored, oriented = read_image(path, size=(30, 40)), read_image(path, size=(40, 30))
    rounding = 3 if name == "a.avif" else 0  # RGB to YCbCr and back
    np.testing.assert_allclose(stored.astype(int), IMAGE, rtol=0, atol=rounding)
    np.testing.assert_array_equal(oriented, np.rot90(stored, -1))


@pytest.mark.parametrize(
    ("orientation", "pixels"),
    [(3, IMAGE), (2, IMAGE), (6, IMAGE[:30, :30])],
    ids=["rotation by 180", "flip", "square"],
)
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_pixels_stay_as_stored_where_the_size_cannot_tell(tmp_path, orientation, pixels, name):
    path = save_oriented(tmp_path / name, orientation, pixels)
    np.testing.assert_array_equal(read_image(path, size=pixels.shape[:2]), pixels)


def tiff(order, big):
    """A grey 3 x 2 TIFF of one strip, levels 0, 10 .. 50, orientation 3, by the format's layout."""
    offset, count, header = ("Q", "Q", 16) if big else ("I", "H", 8)
    entries = [(256, 3), (257, 2), (258, 8), (259, 1), (262, 1), (273, 0), (274, 3), (279, 6)]
    size = struct.calcsize(count) + len(entries) * (20 if big else 12) + struct.calcsize(offset)
    data = b"II" if order == "<" else b"MM"
    data += struct.pack(f"{order}HHHQ", 43, 8, 0, 16) if big else struct.pack(f"{order}HI", 42, 8)
    data += struct.pack(order + count, len(entries))
    for tag, value in entries:
        value = header + size if tag == 273 else value
        data += struct.pack(f"{order}HH{offset}I", tag, 4, 1, value) + bytes(4 * big)
        if big and order == ">":  # the value fills the first 4 of 8 bytes
            data = data[:-8] + struct.pack(">I", value) + bytes(4)
    return data + bytes(struct.calcsize(offset)) + bytes(range(0, 60, 10))


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("big", [False, True], ids=["TIFF", "BigTIFF"])
def test_tiff_of_either_byte_order_and_size(tmp_path, order, big):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(order, big))
    assert read_image(path, size=(2, 3))[..., 0].tolist() == [[0, 10, 20], [30, 40, 50]]
    assert read_image(path)[..., 0].tolist() == [[50, 40, 30], [20, 10, 0]]


@pytest.mark.parametrize("length", [3, 6, 9, 20, 60, 100])
def test_a_truncated_tiff_is_refused(tmp_path, length):
    (tmp_path / "a.tif").write_bytes(tiff("<", big=False)[:length])
    with pytest.raises(ImageReadError, match=r"a\.tif"):
        read_image(tmp_path / "a.tif", size=(2, 3))


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


@pytest.mark.parametrize(("at", "complaint"), [(-1, "cut off"), (-20, "cut off"), (60, "damaged")])
def test_a_damaged_png_is_one_error_without_a_line_of_libpng(tmp_path, capfd, at, complaint):
    path = save(tmp_path / "a.png")
    data = bytearray(path.read_bytes())
    if at < 0:
        del data[at:]
    else:
        data[at] ^= 1  # in the compressed pixels
    path.write_bytes(data)
    with pytest.raises(ImageReadError, match=f"a.png: {complaint}"):
        read_image(path)
    assert capfd.readouterr() == ("", "")


def test_missing_file_folder_and_text_are_refused(tmp_path):
    (tmp_path / "text.jpg").write_text("not an image")
    with pytest.raises(ImageReadError, match=r"none\.jpg: no such file"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(ImageReadError, match="cannot be read"):
        read_image(tmp_path)
    with pytest.raises(ImageReadError, match=r"text\.jpg: not an image"):
        read_image(tmp_path / "text.jpg")


@pytest.mark.parametrize(
    "data",
    [
        b"Pf\n2 1\n-1.0\n" + struct.pack("<ff", 0.5, 0.5),
        b"P5\n# ten bits\n2 1\n1023\n" + struct.pack(">HH", 512, 512),
        b"P2 2 1 4095 2048 2048\n",
    ],
    ids=["float", "10 bits", "12 bits in text"],
)
def test_values_of_unknown_range_are_refused(data):
    with pytest.raises(ImageReadError, match=r"a\.pgm: a PFM, or a PNM of 9 to 15 bits"):
        decode_image(data, "a.pgm")


@pytest.mark.parametrize(
    "data", [b"P5\n2 1\n255\n\x80\x80", b"P5 2 1 65535\n" + struct.pack(">HH", 32896, 32896)]
)
def test_portable_maps_of_8_and_16_bits(data):
    assert (decode_image(data, "a.pgm") == 128).all()


@pytest.mark.parametrize("kind", [np.float32, np.int32])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiff_of_32_bits_is_refused_with_the_reason(tmp_path, kind, channels):
    (tmp_path / "a.tif").write_bytes(cv2.imencode(".tif", np.full((4, 4, channels), 7, kind))[1])
    with pytest.raises(ImageReadError, match=r"a\.tif: values of more than 16 bits: scale them"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("brand", [b"heic", b"hevc", b"mif1"])
def test_heic_says_what_it_needs_or_is_read(brand):
    data = struct.pack(">I4s4s4x4s", 20, b"ftyp", brand, b"mif1")
    with pytest.raises(
        ImageReadError, match=r"a\.heic: .*(pip install 'igcv3det\[heic\]'|cut off)"
    ):
        decode_image(data, "a.heic")
    assert {".heic", ".avif", ".jfif"} <= EXTENSIONS


@pytest.mark.parametrize(
    ("stored", "asked", "hint"),
    [
        ("caf\u00e9.png", "cafe\u0301.png", "in another Unicode normalisation"),
        ("cafe\u0301.png", "caf\u00e9.png", "in another Unicode normalisation"),
        ("photos/a.png", "photos\\a.png", "with slashes"),
    ],
)
def test_a_file_of_nearly_the_same_name_is_hinted_at(tmp_path, stored, asked, hint):
    (tmp_path / stored).parent.mkdir(exist_ok=True)
    write_image(tmp_path / stored, IMAGE)
    if (tmp_path / asked).exists():
        pytest.skip("this file system takes both names for one")
    with pytest.raises(ImageReadError, match=f"no such file; there is one of this name {hint}"):
        read_image(tmp_path / asked)


def test_names_beyond_ascii(tmp_path):
    write_image(tmp_path / "Straße.png", IMAGE)
    np.testing.assert_array_equal(read_image(str(tmp_path / "Straße.png")), IMAGE)


@pytest.mark.parametrize("name", ["a.webp", "a.jpg"])
def test_an_image_that_the_format_cannot_hold(tmp_path, name):
    with pytest.raises(OSError, match="cannot hold an image of 70000 x 1 pixels"):
        write_image(tmp_path / name, np.zeros((1, 70000, 3), np.uint8))
    assert not (tmp_path / name).exists()


def test_a_full_disk_leaves_the_earlier_image(tmp_path, monkeypatch):
    write_image(tmp_path / "a.png", IMAGE)

    def fail(path, content):
        with path.open("wb") as file:
            file.write(content[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match=r"a\.png: the disk is full"):
        write_image(tmp_path / "a.png", 255 - IMAGE)
    assert (read_image(tmp_path / "a.png") == IMAGE).all()
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


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
