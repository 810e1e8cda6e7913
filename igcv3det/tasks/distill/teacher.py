"""The networks that a student is compared with: not trained, run once for each batch.

They are the teacher and the leading parts of the student that are frozen. On a CPU OpenVINO runs
them several times as fast as eager PyTorch: in bfloat16, with norms folded, in the fastest variant.
For a student of another input size the teacher runs at that size (`tasks.distill.input_size`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from igcv3det.detector import SSDLite, at_input_size
from igcv3det.export.assemble import read_openvino
from igcv3det.export.tracing import trace_onnx
from igcv3det.fastpath.conv_impl import ConvImpl, set_conv_impl
from igcv3det.fastpath.deploy import deploy
from igcv3det.models.igcv3 import IGCV3
from igcv3det.models.sections import NUM_SECTIONS, SectionedBackbone
from igcv3det.runtime.sessions import openvino_core
from igcv3det.tasks.distill.input_size import Reencoding, resized

Runtime = Literal["torch", "openvino"]
LOGITS, OFFSETS, TAP, PREFIX = "logits", "offsets", "tap", "prefix"


def part_name(part: int) -> str:
    """The key of a part's output in `Teacher`'s results; 0 is the stem, 8 the last 1x1."""
    return f"part{part}"


class TeacherNetwork(nn.Module):
    """Teacher and frozen student parts as one function of the images.

    All outputs have the student's map sizes.

    Args:
        teacher: a deployed copy is run.
        student: a deployed copy of its first ``prefix`` parts is run; later changes of the student
            have no effect on it.
        prefix: number of frozen leading parts; 0 for none.
        names: outputs to compute.
        variant: as `deploy` takes it.
    """

    def __init__(
        self,
        teacher: SSDLite,
        student: SSDLite,
        prefix: int,
        names: Sequence[str],
        variant: Runtime,
    ) -> None:
        super().__init__()
        # the other variants of an IGCV3 change the order of the fine tap's channels
        keeps_order = not isinstance(teacher.backbone, IGCV3)
        chosen: Runtime | Literal["permuted"] = variant if keeps_order else "permuted"
        self.sizes = (student.config.image_size, teacher.config.image_size)
        is_same = self.sizes[0] == self.sizes[1]
        at_size = teacher if is_same else at_input_size(teacher, self.sizes[0])
        self.teacher = deploy(at_size, chosen)
        anchors = [detector.anchors.cpu() for detector in (at_size, student)]
        differ = len(anchors[0]) == len(anchors[1]) and not torch.equal(*anchors)
        self.reencoding = Reencoding(at_size, student) if differ else nn.Identity()
        self.prefix = prefix
        self.student = deploy(student, variant).backbone if prefix else None
        self.names = tuple(names)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Outputs in the order of ``names``, for normalised images [B, 3, S, S] of the teacher."""
        own = resized(images, *self.sizes)
        found = _outputs(self.teacher, own, set(self.names) - {PREFIX})
        if OFFSETS in found:
            found[OFFSETS] = self.reencoding(found[OFFSETS])
        if self.student is not None:
            x = own
            for part in range(self.prefix):
                x, _ = cast(SectionedBackbone, self.student).forward_section(part, x)
            found[PREFIX] = x
        return tuple(found[name] for name in self.names)


def _outputs(teacher: SSDLite, images: Tensor, wanted: set[str]) -> dict[str, Tensor]:
    """The wanted outputs and those on the way to them; logits and offsets come together."""
    found: dict[str, Tensor] = {}
    x = images
    for part in range(NUM_SECTIONS):
        if wanted <= found.keys():
            break
        x, tap = cast(SectionedBackbone, teacher.backbone).forward_section(part, x)
        found[part_name(part)] = x
        if tap is not None:
            found[TAP] = tap
    if {LOGITS, OFFSETS} & wanted:
        found[LOGITS], found[OFFSETS] = teacher.head([found[TAP], x, *teacher.extras(x)])
    return found


class Teacher:
    """Runs a `TeacherNetwork`.

    Args:
        network: the network to run.
        runtime: ``openvino`` compiles it at the first batch of each shape and runs on the CPU;
            ``torch`` runs it on the device of the images, in the precision of autocast.

    Raises:
        ImportError: ``openvino`` is not installed.
    """

    def __init__(self, network: TeacherNetwork, runtime: Runtime) -> None:
        self.network = network.eval()
        self.runtime = runtime
        self._compiled: dict[tuple[int, ...], Any] = {}
        if runtime == "openvino":
            _import_openvino()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Outputs by name, without gradients.

        Those of OpenVINO are float32, on the CPU, and valid until the next call.

        Raises:
            ValueError: images on a GPU for OpenVINO.
        """
        if self.runtime == "openvino" and images.device.type != "cpu":
            raise ValueError(
                f"OpenVINO runs the teacher on the CPU, but the images are on {images.device}"
            )
        if self.runtime == "torch":
            move_to(self.network, images.device)
            images = images.contiguous(memory_format=torch.channels_last)
            return dict(zip(self.network.names, self.network(images), strict=True))
        shape = tuple(images.shape)
        if shape not in self._compiled:
            self._compiled[shape] = _compiled(self.network, images)
        found = self._compiled[shape](
            [images.float().contiguous().numpy()], share_inputs=True, share_outputs=True
        )
        arrays = [found[index] for index in range(len(self.network.names))]
        return dict(zip(self.network.names, map(torch.from_numpy, arrays), strict=True))


def teacher_tail(teacher: SSDLite, conv_impl: ConvImpl) -> SSDLite:
    """A frozen copy of the teacher, whose last parts take the place of a student's."""
    tail = copy.deepcopy(teacher).eval().requires_grad_(False)
    set_conv_impl(tail, conv_impl)
    return tail.to(memory_format=torch.channels_last)


def move_to(network: nn.Module, device: torch.device) -> None:
    """Moves a network that is no submodule, and so is not moved by Lightning."""
    if next(network.parameters()).device != device:
        network.to(device)


def _import_openvino() -> Any:  # noqa: ANN401
    try:
        import openvino
    except ImportError as error:
        raise ImportError(
            "teacher_runtime openvino: pip install 'igcv3det[export]' first, or use torch"
        ) from error
    return openvino


def _compiled(network: TeacherNetwork, images: Tensor) -> Any:  # noqa: ANN401
    example = torch.zeros(images.shape)
    with torch.autocast("cpu", enabled=False):  # a trainer's would end up in the weights
        model = read_openvino(trace_onnx(network, {"images": example}, network.names))
    model.reshape(list(images.shape))
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "bf16"}
    return openvino_core("teacher_runtime openvino").compile_model(model, "CPU", hints)
