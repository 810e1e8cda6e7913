"""The description of an exported graph, in addition to a checkpoint's description."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from igcv3det.config import DetectorConfig
from igcv3det.runtime.session import Port

Precision = Literal["fp32", "fp16", "int8"]
INPUT = "images"
CANDIDATE_OUTPUTS = ("boxes", "scores")
NMS_OUTPUTS = ("boxes", "scores", "labels")
EXPORT = "export"  # key of the spec in the description


@dataclass(frozen=True)
class ExportSpec:
    """What an exported graph computes, and so what its input and outputs are.

    Attributes:
        precision: of the network's arithmetic (fp32, int8) or stored weights (fp16). Inputs,
            outputs, boxes and scores are float32 in any case.
        preprocessing: whether the graph resizes and normalises. Then the input is uint8 RGB
            [B, H, W, 3] of any size and boxes are in pixels of that image; otherwise it is
            float32 [B, 3, S, S] from `Preprocess` and boxes are in pixels of that.
        nms: whether the graph includes class-wise non-maximum suppression. Then B is 1 and the
            outputs are boxes [N, 4], scores [N], labels [N], best first; otherwise boxes
            [B, A, 4] and scores [B, A, K], and B is dynamic.
        single_image: whether B is 1 without NMS too, as in formats with fixed shapes.

    Raises:
        ValueError: another precision.
    """

    precision: Precision = "fp32"
    preprocessing: bool = False
    nms: bool = False
    single_image: bool = False

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise ValueError(
                f"precision must be one of {get_args(Precision)}, got {self.precision!r}"
            )

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the graph's outputs, in order."""
        return NMS_OUTPUTS if self.nms else CANDIDATE_OUTPUTS

    def input_port(self, image_size: int) -> Port:
        """The input that the graph must have."""
        batch = 1 if self.nms or self.single_image else None
        if self.preprocessing:
            return Port(INPUT, "uint8", (batch, None, None, 3))
        return Port(INPUT, "float32", (batch, 3, image_size, image_size))

    def output_ports(self, num_classes: int, anchors: int | None) -> list[Port]:
        """The outputs that the graph must have, for A anchors."""
        if self.nms:
            kinds = [("float32", (None, 4)), ("float32", (None,)), ("int64", (None,))]
        else:
            batch = 1 if self.single_image else None
            kinds = [("float32", (batch, anchors, side)) for side in (4, num_classes)]
        return [
            Port(name, dtype, shape)
            for name, (dtype, shape) in zip(self.output_names, kinds, strict=True)
        ]

    def as_description(self, config: DetectorConfig) -> dict[str, Any]:
        """Plain values for the file, with input and outputs spelled out for its readers."""
        port = self.input_port(config.image_size)
        frame = "the image given" if self.preprocessing else "the network input"
        return {
            "precision": self.precision,
            "preprocessing": self.preprocessing,
            "suppression": self.nms,  # the key that files of earlier versions have too
            "input": {
                "name": port.name,
                "dtype": port.dtype,
                "layout": "BHWC" if self.preprocessing else "BCHW",
                "shape": list(port.shape),
                "colours": "RGB",
            },
            "outputs": list(self.output_names),
            "boxes": f"xyxy, pixels of {frame}",
        }
