"""A detector of chosen replacements, each finished on the input that it really gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from igcv3det.detector import SSDLite
from igcv3det.models.layers import BATCH_NORMS
from igcv3det.tasks.compress.candidates import Candidate
from igcv3det.tasks.compress.design import Design, build, design_of
from igcv3det.tasks.compress.features import BATCH, FeatureStore, from_half, to_half
from igcv3det.tasks.compress.folded import rescale
from igcv3det.tasks.compress.parts import IMAGES, TAP, Part, PredictionPart, parts_of, split_parts
from igcv3det.tasks.compress.start import Replacement
from igcv3det.tasks.compress.training import PartLoss, PartTraining, train_part
from igcv3det.weight_files import read_safetensors, write_safetensors

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


def chosen_design(teacher: SSDLite, chosen: Mapping[str, Candidate]) -> Design:
    """The design with all changes of the chosen candidates."""
    design = design_of(teacher.config)
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
    teacher: SSDLite, chosen: Mapping[str, Candidate], files: Mapping[str, Path]
) -> tuple[SSDLite, Tensor | None]:
    """The detector of the chosen candidates.

    Args:
        teacher: with listed blocks.
        chosen: one candidate for each position.
        files: weights of the trained candidates by `Candidate.key`.

    Returns:
        The detector, and the order of its fine map's channels where it is not the teacher's.
    """
    design = chosen_design(teacher, chosen)
    detector = build(design, teacher).requires_grad_(False)
    originals = parts_of(teacher)
    order: Tensor | None = None
    for position, part in split_parts(detector, design).items():
        if chosen[position].is_original:
            part.load_state_dict(originals[position].state_dict())
        else:
            replacement = load_replacement(part, files[chosen[position].key])
            order = replacement.tap_order if replacement.tap_order is not None else order
        if position == "head0" and order is not None:
            _reorder_inputs(cast(PredictionPart, part), order)
    rescale(detector)
    return detector, order


def finish(
    detector: SSDLite,
    teacher: SSDLite,
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
        detector: from `assemble`.
        teacher: with listed blocks.
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
    parts = split_parts(detector, design)
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
                train_part(Replacement(part, own), loss, inputs, options)
                weights = {k: v.contiguous() for k, v in part.state_dict().items()}
                write_safetensors(path, weights, {})
        real |= _outputs(part, real[part.reads])
        waiting.remove(position)
        later = {parts[other].reads for other in waiting}
        real = {name: value for name, value in real.items() if name in later}
    detector.eval().requires_grad_(False)


@torch.no_grad()
def _outputs(part: Part, inputs: NDArray[np.float16]) -> dict[str, NDArray[np.float16]]:
    found: dict[str, list[NDArray[np.float16]]] = {name: [] for name in part.outputs}
    for start in range(0, len(inputs), BATCH):
        outputs = part(from_half(inputs[start : start + BATCH]))
        for name, value in zip(part.outputs, outputs, strict=True):
            found[name].append(to_half(value))
    kept = {name: v for name, v in found.items() if not name.startswith(("logits", "offsets"))}
    return {name: np.concatenate(values) for name, values in kept.items()}


def _reorder_inputs(part: PredictionPart, order: Tensor) -> None:
    """Lets the prediction layers of a map read its channels in another order, in place."""
    for layer in (part.classification, part.regression):
        depthwise, pointwise = (cast(nn.Sequential, layer)[i] for i in (0, 1))
        conv, norm = (cast(nn.Sequential, depthwise)[i] for i in (0, 1))
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, BATCH_NORMS)
        assert isinstance(pointwise, nn.Conv2d)
        assert pointwise.groups == 1
        conv.weight.copy_(conv.weight[order].clone())
        for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            assert value is not None
            value.copy_(value[order].clone())
        pointwise.weight.copy_(pointwise.weight[:, order].clone())
