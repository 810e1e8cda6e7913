"""Errors as one line for the user."""

from __future__ import annotations

import os

EXPECTED = (ValueError, OSError, ImportError)
"""Errors whose message is for the user; the others are named by their type as well."""
EXTRAS = {
    "train": frozenset(
        {
            *("pytorch_lightning", "albumentations", "pycocotools", "scipy", "torchmetrics"),
            *("matplotlib", "jsonargparse"),
        }
    ),
    "export": frozenset({"onnx", "onnxscript", "onnxruntime", "openvino", "nncf"}),
    "ncnn": frozenset({"ncnn", "pnnx"}),
    "litert": frozenset({"litert_torch", "ai_edge_litert", "ai_edge_quantizer"}),
    "executorch": frozenset({"executorch", "torchao"}),
    "coreml": frozenset({"coremltools"}),
    "serve": frozenset({"fastapi", "uvicorn", "python_multipart", "prometheus_client"}),
    "fast-eval": frozenset({"faster_coco_eval"}),
    "tensorboard": frozenset({"tensorboard"}),
    "video": frozenset({"av"}),
    "tune": frozenset({"optuna"}),
}
"""Modules by the extra of ``setup.cfg`` that installs them."""
# The first words of jsonargparse's errors, which enumerate types; their cause says what is wrong
_OF_PARSER = ("Does not validate against", "Problem with given class_path", "Parser key ")
# Lines around the message of an error that arrives from a worker process
_OF_TRACEBACK = ("Caught ", "Original Traceback", "Traceback ", " ")


def without_parser(error: BaseException) -> BaseException:
    """The cause of an error of the parser of training commands; any other error as it is.

    The parser lists the types that a value has none of, or repeats the message of the cause.
    """
    while (cause := error.__cause__) is not None:
        if not str(error).startswith(_OF_PARSER) and str(error) != str(cause):
            break
        error = cause
    return error


def error_line(error: BaseException) -> str:
    """The first line of an error's message that says what is wrong.

    An error of a worker process carries that process's traceback; its last line is the message. An
    error of the parser of training commands is replaced by its cause.

    Example:
        >>> error_line(ValueError("a.json: not JSON"))
        'a.json: not JSON'
        >>> error_line(RuntimeError("size mismatch"))
        'RuntimeError: size mismatch (--debug shows where)'
    """
    error = without_parser(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        for extra, modules in EXTRAS.items():
            if (module := error.name.partition(".")[0]) in modules:
                return f"needs {module}: pip install 'igcv3det[{extra}]'"
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"  # without "[Errno 13]"
    kind = type(error).__name__
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    own = [line for line in lines if not line.startswith(_OF_TRACEBACK)]
    if not own:
        return f"{kind} (--debug shows where)"
    line = own[0].strip().removeprefix(f"{kind}: ")
    return line if isinstance(error, EXPECTED) else f"{kind}: {line} (--debug shows where)"
