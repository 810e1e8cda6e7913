"""ncnn behind the interface of a session.

ncnn reads as many layers from a ``.param`` as its second line says. The text after them is free, so
the description is there, behind a comment sign, and stays with the file. It holds a checksum of the
weights: with a ``.bin`` of another model ncnn would compute nonsense without an error.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from igcv3det.description import DESCRIPTION
from igcv3det.runtime.session import Array, Port, check_weights, import_extra

MAGIC = "7767517"
"""The first line of a ``.param``."""
MARK = f"# {DESCRIPTION} "
"""Start of the line that holds the description."""
INPUT = "images"
"""Name of the input."""
_FLOAT32 = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage")


class NcnnSession:
    """A network of ncnn, one image at a time.

    Args:
        path: the ``.param``; the ``.bin`` is beside it.
        threads: of ncnn; None leaves the number to it.

    Raises:
        FileNotFoundError: there is no ``.bin``.
        ImportError: ncnn is not installed.
        ValueError: a file that cannot be read, or a ``.bin`` that belongs to another ``.param``.
    """

    def __init__(self, path: Path, threads: int | None) -> None:
        ncnn = import_extra("ncnn", path, "ncnn")
        weights = path.with_suffix(".bin")
        if not weights.is_file():
            raise FileNotFoundError(f"{weights}: no such file; {path.name} needs these weights")
        lines = _read_lines(path)
        self.description = next(
            (line.removeprefix(MARK) for line in lines if line.startswith(MARK)), None
        )
        check_weights(self.description, path)
        self._path = path
        self._matrix = ncnn.Mat
        self._net = ncnn.Net()
        if threads is not None:
            self._net.opt.num_threads = threads
        for option in _FLOAT32:  # half precision would depend on the processor
            setattr(self._net.opt, option, False)
        if self._net.load_param(str(path)) or self._net.load_model(str(weights)):
            raise ValueError(f"{path}: ncnn cannot read it or its weights {weights.name}")
        shape = _input_shape(lines, path)
        self.inputs = [Port(INPUT, "float32", shape)]
        self._names = sorted(self._net.output_names())
        example = np.zeros(shape, dtype=np.float32)
        self.outputs = [
            Port(name, output.dtype.name, output.shape)
            for name, output in zip(self._names, self.run(example), strict=True)
        ]

    def run(self, array: Array) -> list[Array]:
        """The outputs for one image [1, 3, S, S].

        Raises:
            ValueError: ncnn cannot compute one of them.
        """
        extractor = self._net.create_extractor()  # one for each call, so threads share the net
        image = np.ascontiguousarray(array[0])  # ncnn reads its memory while it computes
        extractor.input(INPUT, self._matrix(image))
        outputs = []
        for name in self._names:
            code, output = extractor.extract(name)
            if code:  # the output has no memory then
                raise ValueError(f"{self._path}: ncnn cannot compute {name} (error {code})")
            outputs.append(np.array(output)[None])  # copied: its memory belongs to the extractor
        return outputs


def _read_lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: ncnn cannot read it: it is no text") from error
    if not lines or lines[0].strip() != MAGIC:
        raise ValueError(f"{path}: ncnn cannot read it: it does not start with {MAGIC}")
    return lines


def _input_shape(lines: list[str], path: Path) -> tuple[int, int, int, int]:
    """The input's, from a line such as ``Input images 0 1 images 0=320 1=320 2=3``."""
    for line in lines[2:]:
        words = line.split()
        if words[:1] == ["Input"] and words[4:5] == [INPUT]:
            sides = dict(word.split("=", 1) for word in words[5:] if "=" in word)
            if sides.keys() >= {"0", "1", "2"} and all(side.isdigit() for side in sides.values()):
                width, height, channels = (int(sides[key]) for key in "012")
                return 1, channels, height, width
    raise ValueError(
        f"{path}: has no input {INPUT!r} with a size; only files written by igcv3det export can run"
    )
