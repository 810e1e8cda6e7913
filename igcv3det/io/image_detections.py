"""Detections that know their image."""

from __future__ import annotations

from dataclasses import dataclass

import PIL.Image

from igcv3det.io.drawing import draw_detections
from igcv3det.io.image_input import ImageSource, as_array
from igcv3det.structures import Detections


@dataclass(frozen=True, eq=False)
class ImageDetections(Detections):
    """The detections of one image, with the image to draw them into.

    Attributes:
        source: the image as it was given: a file is read again by `plot`.
    """

    source: ImageSource | None = None

    def plot(
        self, image: ImageSource | None = None, *, show_scores: bool = True
    ) -> PIL.Image.Image:
        """Draws the detections; a notebook shows the result.

        Args:
            image: to draw into; None takes ``source``.
            show_scores: draw the score behind the name.

        Raises:
            ImageReadError, ValueError, TypeError: see `io.image_input.as_array`; ValueError also
                where there is no image.
        """
        image = self.source if image is None else image
        if image is None:
            raise ValueError("these detections have no image: pass it to plot")
        drawn = draw_detections(as_array(image), self, show_scores=show_scores)
        return PIL.Image.fromarray(drawn)
