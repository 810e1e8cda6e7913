"""Readers of the formats in which data sets come, a file each."""

from typing import Final, Literal, get_args

DataFormat = Literal["coco", "yolo", "voc", "labelme", "cvat", "csv"]
FORMATS: Final[tuple[DataFormat, ...]] = get_args(DataFormat)
"""Formats by their names on the command line; "coco" is Roboflow's export too."""
