import numpy as np
import pytest
from PIL import Image

from research.sharpness import main, spectrum


def wave(cycles, side=300):
    """One image of a horizontal cosine."""
    values = 128 + 100 * np.cos(2 * np.pi * cycles * np.arange(side) / side)
    return np.broadcast_to(values[None, None, :, None], (1, side, side, 3)).astype(np.float32)


@pytest.mark.parametrize(("cycles", "band"), [(10, 0), (20, 1), (75, 3), (140, 6)])
def test_a_wave_is_in_its_band(cycles, band):
    found = spectrum(wave(cycles))
    assert found.argmax() == band
    assert found.max() > 100 * np.delete(found, band).max()


def test_power_grows_with_the_square():
    np.testing.assert_allclose(spectrum(2 * wave(20)), 4 * spectrum(wave(20)), rtol=1e-4)


def _save_noise(folder):
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")


def test_small_images_lack_detail_and_sharpening_brings_some_back(tmp_path, capsys):
    _save_noise(tmp_path / "noise")
    assert main([str(tmp_path / "noise"), "--as-small", str(tmp_path / "small")]) == 0
    with Image.open(tmp_path / "small" / "a.png") as small:
        assert small.size == (300, 300)
    folders = [str(tmp_path / "noise"), str(tmp_path / "small")]
    shares = []
    for strength in ("0", "1"):
        capsys.readouterr()
        assert main([*folders, "--cache", str(tmp_path / "cache"), "--sharpen", strength]) == 0
        _, first, shown = capsys.readouterr().out.splitlines()
        assert first.split("\t")[1:] == ["1.00"] * 7
        shares.append(float(shown.split("\t")[-1]))
    assert shares[0] < 0.5
    assert shares[1] > 2 * shares[0]
