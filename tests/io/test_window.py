"""Windows: why there can be none, and how their user ends them."""

import cv2
import numpy as np
import pytest

from igcv3det.io.window import Window

IMAGE = np.zeros((4, 6, 3), np.uint8)


@pytest.fixture
def gui(monkeypatch):
    """An OpenCV with windows; the list holds the keys to come."""
    keys = []
    shown = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:   QT5\n    QT: YES\n")
    monkeypatch.setattr(cv2, "namedWindow", lambda *args: None)
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.append(image))
    monkeypatch.setattr(cv2, "waitKey", lambda ms: keys.pop(0) if keys else -1)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *args: 1.0)
    monkeypatch.setattr(cv2, "destroyAllWindows", shown.clear)
    return keys, shown


def test_an_opencv_without_windows(monkeypatch):
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:          NONE\n")
    with pytest.raises(OSError, match="built without them; pip uninstall opencv-python-headless"):
        Window("a")


@pytest.mark.skipif("sys.platform != 'linux'", reason="other systems need no variable")
def test_a_machine_without_a_display(gui, monkeypatch):
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(OSError, match="no display"):
        Window("a")


def test_a_video_is_shown_until_a_key_ends_it(gui):
    keys, shown = gui
    with Window("a") as window:
        assert window.show(IMAGE)
        assert len(shown) == 1
        keys.append(ord("x"))
        assert window.show(IMAGE)
        keys.append(ord("q"))
        assert not window.show(IMAGE)
    assert shown == []


def test_an_image_waits_for_a_key(gui):
    keys, _ = gui
    keys += [-1, -1, ord(" ")]
    assert Window("a").show(IMAGE, 0)
    assert keys == []


def test_a_closed_window_ends_the_run(gui, monkeypatch):
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *args: 0.0)
    assert not Window("a").show(IMAGE, 0)
