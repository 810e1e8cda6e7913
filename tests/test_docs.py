"""The pages: their Python runs, their links and the names of architecture.md exist."""

import ast
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import yaml

from igcv3det.config import DetectorConfig, config_from_dict
from igcv3det.detector import build_detector

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        ROOT / "data" / "README.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
)
CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SLOW = ("export_detector",)


def _name(page):
    return page.relative_to(ROOT).as_posix()


def _blocks():
    for page in PAGES:
        for number, code in enumerate(CODE.findall(page.read_text(encoding="utf-8"))):
            marks = [pytest.mark.slow] if any(word in code for word in SLOW) else []
            yield pytest.param(page, code, id=f"{_name(page)}:{number}", marks=marks)


@pytest.mark.parametrize(("page", "code"), list(_blocks()))
def test_python_runs(page, code, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    PIL.Image.fromarray(image).save(tmp_path / "street.jpg")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(page), "exec"), {"__name__": "page"})


def _detectors():
    for page in PAGES:
        for code in re.findall(
            r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S
        ):
            content = yaml.safe_load(code)
            model = content.get("model") if isinstance(content, dict) else None
            if isinstance(model, dict) and "backbone" in model.get("detector", {}):
                yield pytest.param(model["detector"], id=_name(page))


@pytest.mark.parametrize("detector", list(_detectors()))
def test_detectors_can_be_built(detector):
    built = build_detector(config_from_dict(DetectorConfig, detector))
    assert len(built.anchors) > 0


def _prose(page):
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def _anchors(page):
    """The anchors that GitHub and MkDocs give headings."""
    headings = re.findall(r"^#+ (.*)$", _prose(page), re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_to_files_and_headings(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), f"{_name(page)}: {link}"
        if anchor:
            assert anchor in _anchors(target), f"{_name(page)}: {link}"


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def _listed(entry):
    if isinstance(entry, str):
        return [entry]
    inner = entry.values() if isinstance(entry, dict) else entry
    return [page for part in inner for page in _listed(part)]


def test_every_page_is_in_the_navigation():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = set(_listed(site["nav"])) - {"index.md", "contributing.md", "changelog.md"}
    tables = {page for page in PAGES if page.name == "table.md"}
    own = {page for page in PAGES if page.is_relative_to(ROOT / "docs")} - tables
    assert {page.relative_to(ROOT / "docs").as_posix() for page in own} == listed


def _definitions(tree, prefix=""):
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from _definitions(node, f"{prefix}{node.name}.")


def _names_of_architecture():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return sorted(set(re.findall(r"`([\w/]+\.py)(?:::([\w.]+))?`", text)))


@pytest.mark.parametrize(("file", "name"), _names_of_architecture())
def test_architecture_names_what_exists(file, name):
    path = next((p for p in (ROOT / "igcv3det" / file, ROOT / file) if p.is_file()), None)
    assert path is not None, f"no file {file}"
    if name:
        assert name in set(_definitions(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_tables_have_as_many_cells_in_every_row(page):
    rows = re.findall(r"(?:^\|.*\n)+", _prose(page) + "\n", re.M)
    for table in rows:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, f"{_name(page)}: {table[:80]}"
