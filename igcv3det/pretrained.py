"""Names of the weights that come with the package.

Each file describes itself; among its metadata are ``status`` ("preview" where it has no more than
about half of its teacher's AP on COCO), ``figures`` and ``weights_sha256``. Training:
``docs/weights.md``.
"""

from __future__ import annotations

from pathlib import Path

from igcv3det.config_files import SUFFIXES, find_config

_FOLDER = Path(__file__).resolve().parent / "weights"
PRETRAINED = {
    "igcv3-d": _FOLDER / "igcv3_d_ssdlite.safetensors",
    "mobilenetv2": _FOLDER / "mobilenetv2_ssdlite.safetensors",
    "searched-90": _FOLDER / "searched_90_ssdlite.safetensors",
    "searched-80": _FOLDER / "searched_268_ssdlite.safetensors",
    "searched-60": _FOLDER / "searched_220_ssdlite.safetensors",
    "searched-igcv3": _FOLDER / "searched_igcv3_ssdlite.safetensors",
}
"""Files by name. ``searched-N`` has some N % of the latency of ``mobilenetv2``; ``searched-igcv3``
has IGCV3's grouped blocks in stages 4 to 7, for images of 272 px. ``searched-80`` and
``searched-60`` are ``searched-90`` trained further at 268 and 220 px."""
DEFAULT = "mobilenetv2"
SUFFIXES_OF_WEIGHTS = (".safetensors", ".ckpt")
"""Endings of files of trained networks, which describe themselves."""
ALIASES = {"released": DEFAULT}
FINE_TUNING = "mobilenetv2"
"""The weights from which a data set of one's own is trained best (docs/fine_tuning.md)."""


def resolve_model(model: str | Path | None = None) -> Path:
    """The file of a model that is given by name or by path.

    Args:
        model: a path, a name of ``PRETRAINED`` or ``ALIASES``, or a shipped configuration
            (`find_config`); None is ``DEFAULT``. A file of that path in the working directory has
            precedence over a name, a folder has not.

    Returns:
        The path. One with a suffix need not exist.

    Raises:
        FileNotFoundError: a name that is not known; the message lists the names.
    """
    if model is None:
        return PRETRAINED[DEFAULT]
    name = str(model)
    if not name:
        raise FileNotFoundError("the model has an empty name")
    path = Path(name)
    known = PRETRAINED.get(ALIASES.get(name, name))
    if path.is_file() or (path.exists() and known is None):
        return path
    if known is not None:
        return known
    if path.suffix in SUFFIXES:
        return find_config(path)
    if not path.suffix and len(path.parts) == 1:
        names = ", ".join([*PRETRAINED, *ALIASES])
        raise FileNotFoundError(f"{name}: no such file, and no pretrained weights: {names}")
    return path
