"""A window that shows images as they come."""

from __future__ import annotations

import os
import re
import sys
from typing import Self

import cv2

from igcv3det.io.images import Image

_CLOSING_KEYS = frozenset({27, ord("q"), ord("Q")})  # 27: escape


class Window:
    """Shows one image after the other, until its user closes it or presses q or escape.

    Args:
        title: of the window.

    Raises:
        OSError: OpenCV was built without windows, or this machine has no display.
    """

    def __init__(self, title: str) -> None:
        if reason := _why_no_window():
            raise OSError(reason)
        self._title = title
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)

    def show(self, image: Image, wait_ms: int = 1) -> bool:
        """Shows an image.

        Args:
            image: [H, W, 3] uint8 RGB.
            wait_ms: how long a key is waited for; 0 waits for a key or the end of the window.

        Returns:
            Whether the window is still wanted.
        """
        cv2.imshow(self._title, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        waiting = wait_ms == 0
        while True:
            key = cv2.waitKey(50 if waiting else wait_ms) & 0xFF
            is_open = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
            if key in _CLOSING_KEYS or not is_open:
                return False
            if not waiting or key != 0xFF:  # 0xFF: no key
                return True

    def close(self) -> None:
        """Removes the window."""
        cv2.destroyAllWindows()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _why_no_window() -> str | None:
    """Why this process cannot open a window; None if it can."""
    # GUI: NONE is what opencv-python-headless has; other builds name a toolkit there
    if re.search(r"GUI:\s+NONE", cv2.getBuildInformation()):
        return (
            "no window: this OpenCV was built without them; pip uninstall opencv-python-headless, "
            "then pip install opencv-python"
        )
    variables = ("DISPLAY", "WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not any(map(os.environ.get, variables)):
        return "no window: this machine has no display (neither DISPLAY nor WAYLAND_DISPLAY is set)"
    return None
