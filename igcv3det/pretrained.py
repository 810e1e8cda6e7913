"""Names of the weights that come with the package.

Each file describes itself; among its metadata are ``status`` ("preview" while it is well below its
teacher), ``figures`` and ``weights_sha256``. How they were made: ``docs/weights.md``.
"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent / "weights"
PRETRAINED = {"igcv3-d": _FOLDER / "igcv3_d_ssdlite.safetensors"}
"""Files by name."""
DEFAULT = "igcv3-d"
ALIASES = {"released": DEFAULT}


def resolve_model(model: str | Path | None = None) -> Path:
    """The file of a model that is given by name or by path.

    Args:
        model: a name of ``PRETRAINED`` or ``ALIASES``, or a path; None is the default's file. A
            file of that name in the working directory comes first.

    Returns:
        The path; it need not exist.
    """
    name = str(model) if model is not None else DEFAULT
    if Path(name).exists():
        return Path(name)
    return PRETRAINED.get(ALIASES.get(name, name), Path(name))
