"""Any backbone of this package as an IGCV3 whose blocks are listed one by one.

MobileNetV2's block is IGCV3's with dense 1x1 convolutions and a ReLU6 after the expansion too; its
first block has no expansion.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from igcv3det.config import BackboneConfig, BlockConfig
from igcv3det.models.igcv3 import IGCV3, block_configs, last_channels, stem_channels
from igcv3det.models.mobilenetv2 import SECTION_STARTS, MobileNetV2
from igcv3det.models.sections import NUM_SECTIONS

_PARTS = {"expand": ("0.0", "0.1"), "depthwise": ("1.0", "1.1"), "project": ("2", "3")}
_PARTS_WITHOUT_EXPANSION = {"depthwise": ("0.0", "0.1"), "project": ("1", "2")}


def explicit_config(backbone: nn.Module, config: BackboneConfig) -> BackboneConfig:
    """The configuration of the same network with all blocks listed.

    Args:
        backbone: an `IGCV3` or a `MobileNetV2`.
        config: what it was built from.
    """
    kept = {
        name: getattr(config, name)
        for name in ("p1", "p2", "dropout", "zero_init", "norm_eps", "norm_momentum", "last_groups")
    }
    if isinstance(backbone, IGCV3):
        return BackboneConfig(
            **kept,
            blocks=block_configs(config),
            stem_channels=stem_channels(config),
            last_channels=last_channels(config),
        )
    assert isinstance(backbone, MobileNetV2)
    features = backbone.features
    return BackboneConfig(
        **kept,
        blocks=tuple(_block_configs(backbone)),
        stem_channels=_convs(features[0])[0].out_channels,
        last_channels=_convs(features[-1])[0].out_channels,
    )


def explicit_weights(backbone: nn.Module) -> dict[str, Tensor]:
    """The backbone's state dict under the names of the `IGCV3` of `explicit_config`."""
    if isinstance(backbone, IGCV3):
        return dict(backbone.state_dict())
    assert isinstance(backbone, MobileNetV2)
    features = backbone.features
    parts = {"stem": features[0], "last": features[-1]}
    for number, block in enumerate(features[1:-1]):
        inside = cast(nn.Module, block.conv)
        names = _PARTS if len(_convs(block)) == 3 else _PARTS_WITHOUT_EXPANSION
        for part, (conv, norm) in names.items():
            parts[f"blocks.{number}.{part}.0"] = inside.get_submodule(conv)
            parts[f"blocks.{number}.{part}.1"] = inside.get_submodule(norm)
    weights = {
        f"{name}.{key}": value
        for name, module in parts.items()
        for key, value in module.state_dict().items()
    }
    if backbone.classifier is not None:
        final = cast(nn.Sequential, backbone.classifier)[-1]
        weights |= {f"classifier.{key}": value for key, value in final.state_dict().items()}
    return weights


def _block_configs(backbone: MobileNetV2) -> list[BlockConfig]:
    blocks = []
    for stage in range(1, NUM_SECTIONS - 1):
        for index in range(SECTION_STARTS[stage], SECTION_STARTS[stage + 1]):
            block = backbone.features[index]
            convs = _convs(block)
            hidden = convs[0].out_channels if len(convs) == 3 else None
            blocks.append(
                BlockConfig(
                    stage,
                    convs[-1].out_channels,
                    hidden,
                    relu="both",
                    shortcut=bool(block.use_res_connect),
                )
            )
    return blocks


def _convs(module: nn.Module) -> list[nn.Conv2d]:
    return [part for part in module.modules() if isinstance(part, nn.Conv2d)]
