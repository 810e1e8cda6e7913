"""A network of chosen replacements, each finished on the input that it really gets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from igcv3det.fastpath.conv_impl import set_conv_impl
from igcv3det.tasks.compress.candidates import Candidate
from igcv3det.tasks.compress.design import Design
from igcv3det.tasks.compress.detector_parts import PredictionPart
from igcv3det.tasks.compress.features import BATCH, FeatureStore
from igcv3det.tasks.compress.folded import rescale
from igcv3det.tasks.compress.parts import IMAGES, TAP, Part
from igcv3det.tasks.compress.start import Replacement
from igcv3det.tasks.compress.teacher import Teacher
from igcv3det.tasks.compress.training import PartLoss, PartTraining, train_part
from igcv3det.tasks.half_floats import from_half, to_half
from igcv3det.weight_files import read_safetensors, write_safetensors

logger = logging.getLogger(__name__)

TAP_ORDER = "tap_order"
Progress = Callable[[str], None]


class RealInputs:
    """A part's real inputs beside the teacher's values.

    Args:
        store: the teacher's.
        name: of the input.
        inputs: [N, C, H, W] that the replaced parts before give.
    """

    def __init__(self, store: FeatureStore, name: str, inputs: NDArray[np.float16]) -> None:
        self.count, self._store = store.count, store
        self._name, self._inputs = name, inputs

    def read(self, name: str) -> NDArray[np.float16]:
        """[N, C, H, W] of a value."""
        return self._inputs if name == self._name else self._store.read(name)


def chosen_design(teacher: Teacher, chosen: Mapping[str, Candidate]) -> Design:
    """The design with all changes of the chosen candidates."""
    design = dict(teacher.design)
    for candidate in chosen.values():
        design |= candidate.changes
    return design


def load_replacement(part: Part, path: Path) -> Replacement:
    """Gives a part the weights of a trained candidate, in place."""
    if not part.state_dict():  # no block: a file without weights cannot be read
        return Replacement(part)
    weights, _ = read_safetensors(path)
    order = weights.pop(TAP_ORDER, None)
    part.load_state_dict(weights)
    return Replacement(part, order)


@torch.no_grad()
def assemble(
    teacher: Teacher, chosen: Mapping[str, Candidate], files: Mapping[str, Path]
) -> tuple[nn.Module, Tensor | None]:
    """The network of the chosen candidates.

    Args:
        teacher: the original.
        chosen: one candidate for each position.
        files: weights of the trained candidates by `Candidate.key`.

    Returns:
        The network, and the order of its fine map's channels where it is not the teacher's.
    """
    design = chosen_design(teacher, chosen)
    network = teacher.build(design).requires_grad_(False)
    originals = teacher.parts()
    order: Tensor | None = None
    for position, part in teacher.split(network, design).items():
        if chosen[position].is_original:
            part.load_state_dict(originals[position].state_dict())
        else:
            replacement = load_replacement(part, files[chosen[position].key])
            order = replacement.tap_order if replacement.tap_order is not None else order
        if part.reads == TAP and order is not None:
            cast(PredictionPart, part).reorder_inputs(order)
    rescale(network)
    return network, order


def finish(
    network: nn.Module,
    teacher: Teacher,
    chosen: Mapping[str, Candidate],
    loss: PartLoss,
    store: FeatureStore,
    options: PartTraining,
    *,
    tap_order: Tensor | None,
    finished: Path,
    progress: Progress,
) -> None:
    """Trains the replaced parts one after the other on their real inputs, in place.

    Args:
        network: from `assemble`.
        teacher: the original.
        chosen: as for `assemble`.
        loss: of the parts.
        store: the teacher's features.
        options: steps of each part; 0 trains nothing.
        tap_order: from `assemble`.
        finished: folder for the parts that are done; those that are there are taken.
        progress: is told the name of each part.
    """
    if options.steps == 0:
        return
    design = chosen_design(teacher, chosen)
    real: dict[str, NDArray[np.float16]] = {IMAGES: store.read(IMAGES)}
    parts = teacher.split(network, design)
    waiting = list(parts)
    for position, part in parts.items():
        if not chosen[position].is_original:
            path = finished / f"{position}.safetensors"
            if path.is_file():
                load_replacement(part, path)
            else:
                progress(position)
                own = tap_order if TAP in part.outputs else None
                inputs = RealInputs(store, part.reads, real[part.reads])
                _finish_part(Replacement(part, own), loss, inputs, options, position)
                weights = {k: v.contiguous() for k, v in part.state_dict().items()}
                write_safetensors(path, weights, {})
        real |= _outputs(part, real[part.reads], teacher.outputs)
        waiting.remove(position)
        later = {parts[other].reads for other in waiting}
        real = {name: value for name, value in real.items() if name in later}
    network.eval().requires_grad_(False)


def _finish_part(
    replacement: Replacement,
    loss: PartLoss,
    inputs: RealInputs,
    options: PartTraining,
    position: str,
) -> None:
    """Trains a part in place; one that diverges keeps the weights that it had."""
    part = replacement.part
    before = {key: value.clone() for key, value in part.state_dict().items()}
    try:
        train_part(replacement, loss, inputs, options)
    except FloatingPointError as error:
        logger.warning("%s: %s: not finished, it keeps its weights", position, error)
        set_conv_impl(part, "reference")
        part.load_state_dict(before)


@torch.no_grad()
def _outputs(
    part: Part, inputs: NDArray[np.float16], final: Sequence[str]
) -> dict[str, NDArray[np.float16]]:
    found: dict[str, list[NDArray[np.float16]]] = {name: [] for name in part.outputs}
    for start in range(0, len(inputs), BATCH):
        outputs = part(from_half(inputs[start : start + BATCH]))
        for name, value in zip(part.outputs, outputs, strict=True):
            found[name].append(to_half(value))
    kept = {name: v for name, v in found.items() if name not in final}
    return {name: np.concatenate(values) for name, values in kept.items()}
