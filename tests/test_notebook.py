"""The notebook of the documentation runs from its first to its last cell."""

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parent.parent / "docs" / "notebook.ipynb"


def _cells(kind):
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == kind]


def test_it_carries_no_outputs():
    assert _cells("code")
    for cell in _cells("code"):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@pytest.mark.slow
def test_it_runs_in_a_kernel(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="needs the extra igcv3det[dev]")
    pytest.importorskip("ipykernel", reason="needs the extra igcv3det[dev]")
    import nbformat

    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parent.parent))
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(book)
    client = nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": tmp_path}})
    client.execute()
    drawn = [out for cell in book.cells for out in cell.get("outputs", ()) if "data" in out]
    assert sum("image/png" in out["data"] for out in drawn) == 2
    assert (tmp_path / "run" / "checkpoints" / "best.safetensors").is_file()


def test_its_code_runs(tmp_path, monkeypatch):
    """In this process, which is faster than a kernel."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "notebook"}
    for cell in _cells("code"):
        exec(compile(cell["source"], cell["id"], "exec"), names)
    assert names["best"].is_file()
    assert names["embedding"].shape == (4, 1280)
