"""What ``train DATA --tune N`` searches: hyper-parameters, their bounds, the length of a trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from igcv3det.config import AugmentConfig, OptimConfig

TRIAL_SHARE = 0.25
"""Length of a trial as a share of the training's ..."""
MIN_EPOCHS = 2
"""... but at least so many epochs."""
VALIDATIONS = 4
"""Of a trial; after each of them it may be pruned."""
LR, DECAY = "model.optim.lr", "model.optim.weight_decay"
WARMUP = "model.optim.warmup_steps"
CROP, PRESET, OWN = "data.augment.crop_min_scale", "data.augment.preset", "data.augmentation"
_OPTIM: Final = OptimConfig()
_AUGMENT: Final = AugmentConfig()


class Parameter(NamedTuple):
    """A hyper-parameter that is searched.

    Attributes:
        name: for tables, and the study's.
        key: of the configuration.
        low: bound.
        high: bound.
        default: what training would take without a search.
        is_log: drawn on a logarithmic scale.
        reason: of the bounds, for the user.
    """

    name: str
    key: str
    low: float
    high: float
    default: float
    is_log: bool
    reason: str


class TrialLength(NamedTuple):
    """How long a trial trains.

    Attributes:
        options: keys of the configuration to their values.
        steps: optimizer steps.
        text: for the user.
    """

    options: dict[str, Any]
    steps: int
    text: str


def search_space(
    values: Mapping[str, Any], given: Mapping[str, Any], steps: int
) -> list[Parameter]:
    """The hyper-parameters that are searched: those of the four that the user does not set.

    Args:
        values: the options of the training by dotted key.
        given: those that the user sets.
        steps: of the whole training.
    """
    lr, decay = (values.get(key, default) for key, default in _DEFAULTS)
    warmup = min(0.3, max(0.005, values.get(WARMUP, _OPTIM.warmup_steps) / steps))
    crop = min(0.9, max(0.1, values.get(CROP, _AUGMENT.crop_min_scale)))
    around = "times either side of what training would take"
    found = [
        Parameter("lr", LR, lr / 5, lr * 5, lr, True, f"five {around}"),
        Parameter("weight decay", DECAY, decay / 10, decay * 10, decay, True, f"ten {around}"),
        Parameter("warm-up", WARMUP, 0.005, 0.3, warmup, True, "share of the steps"),
    ]
    crops = OWN not in values and values.get(PRESET, _AUGMENT.preset) in ("ssdlite", "ssd")
    if crops:
        reason = "smallest side of a crop as a share of the image's; less is a stronger change"
        found.append(Parameter("crop", CROP, 0.1, 0.9, crop, False, reason))
    return [own for own in found if own.key not in given and own.low > 0]


_DEFAULTS: Final = ((LR, _OPTIM.lr), (DECAY, _OPTIM.weight_decay))


def as_options(
    parameters: Sequence[Parameter], chosen: Mapping[str, float], steps: int
) -> dict[str, Any]:
    """Keys of the configuration for chosen values, by name; the warm-up is counted in steps.

    Example:
        >>> warmup = Parameter("warm-up", WARMUP, 0.005, 0.3, 0.1, True, "")
        >>> as_options([warmup], {"warm-up": 0.1}, 200)
        {'model.optim.warmup_steps': 20}
    """
    return {
        own.key: round(chosen[own.name] * steps) if own.key == WARMUP else chosen[own.name]
        for own in parameters
        if own.name in chosen
    }


def steps_of(values: Mapping[str, Any]) -> int:
    """``trainer.max_steps``; 0 where the length is in epochs, for which Lightning has -1."""
    return max(0, int(values.get("trainer.max_steps") or 0))


def trial_length(values: Mapping[str, Any], epoch_steps: int) -> TrialLength:
    """A quarter of the training, with four validations.

    Args:
        values: the options of the training by dotted key.
        epoch_steps: optimizer steps of an epoch.
    """
    if whole := steps_of(values):
        steps = max(1, round(TRIAL_SHARE * whole))
        interval = max(1, int(steps / epoch_steps / VALIDATIONS))
        options = {"trainer.max_steps": steps, "trainer.check_val_every_n_epoch": interval}
        return TrialLength(options, steps, f"{steps} steps, a quarter of {whole}")
    whole = int(values["trainer.max_epochs"])
    epochs = min(whole, max(MIN_EPOCHS, round(TRIAL_SHARE * whole)))
    most = max(1, epochs // VALIDATIONS)
    # the last epoch is validated
    interval = max(n for n in range(1, most + 1) if epochs % n == 0)
    options = {"trainer.max_epochs": epochs, "trainer.check_val_every_n_epoch": interval}
    text = f"{epochs} epochs, {epochs / whole:.0%} of {whole}"
    return TrialLength(options, epochs * epoch_steps, text)
