"""The wheel, installed where nothing but the base dependencies can be imported."""

import configparser
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from igcv3det.cli.entry import COMMANDS, RESEARCH
from igcv3det.cli.errors import EXTRAS
from igcv3det.io.images import write_image

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = ("igcv3det", "configs", "setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


def setup_cfg():
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def requirements(lines):
    """Names of distributions of requirements without extras, in canonical form."""
    for line in lines:
        requirement, _, marker = line.partition(";")
        if "extra ==" in marker:
            continue
        name = re.match(r"[\w.-]+", requirement.strip()).group()
        yield re.sub(r"[-_.]+", "-", name).lower()


def base_distributions():
    """The installed distributions that the base package needs, directly and indirectly."""
    lines = setup_cfg()["options"]["install_requires"].split("\n")
    wanted = list(requirements(line for line in lines if line and not line.startswith("#")))
    found = {}
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # not for this platform
        wanted += requirements(found[name].requires or ())
    return found.values()


def run(*command, cwd, check=True):
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, timeout=300
    )
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("setuptools", reason="the wheel is built without a registry")
    pytest.importorskip("pip", reason="the wheel is built by pip")
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    options = ("--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", source / "dist")
    run(*pip, "wheel", *options, source, cwd=source)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def program(wheel, tmp_path_factory):
    """The console script in a virtual environment that has the base dependencies alone."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for distribution in base_distributions():
        for file in distribution.files:
            top = Path(distribution.locate_file(file.parts[0]))
            link = site / file.parts[0]
            if file.parts[0] != ".." and not link.exists() and top.exists():
                link.symlink_to(top)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    python = folder / "bin" / "python"
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    return folder / "bin" / "igcv3det"


def test_the_extras_cannot_be_imported_there(program, tmp_path):
    modules = sorted(set().union(*EXTRAS.values()))
    code = f"from importlib.util import find_spec; print([m for m in {modules} if find_spec(m)])"
    assert run(program.parent / "python", "-c", code, cwd=tmp_path).stdout == "[]\n"


def test_it_detects_from_another_folder(program, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    write_image(tmp_path / "photo.png", noise)
    done = run(program, "predict", "photo.png", "--json", "found.json", cwd=tmp_path)
    assert done.stdout.startswith("photo.png: ")
    (record,) = json.loads((tmp_path / "found.json").read_text())
    assert (record["file"], record["width"], record["height"]) == ("photo.png", 80, 60)


def test_base_commands_and_configurations_by_name(program, tmp_path):
    listed = run(program, "models", cwd=tmp_path).stdout
    assert listed.startswith("igcv3-d: AP ")
    options = ("--rounds", "1", "--json", "rows.json")
    run(program, "compare", "igcv3_shapes.yaml", *options, cwd=tmp_path)
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert row["name"] == "igcv3_shapes"
    timing = ("--backend", "torch", "--rounds", "1", "--no-memory")
    run(program, "benchmark", "igcv3_shapes.yaml", *timing, cwd=tmp_path)


CONFIGS = {"train": "igcv3_shapes", "train-cls": "cls/cifar10", "distill": "distill/1_early"}


@pytest.mark.parametrize("command", ["train", "train-cls", "distill", "eval-cls", "eval"])
def test_a_missing_extra_is_one_line(program, tmp_path, command):
    (tmp_path / "a.json").write_text('{"images": [], "annotations": [], "categories": []}')
    (tmp_path / "data").mkdir()
    words = {
        "eval": ("--annotations", "a.json", "--images", "."),
        "eval-cls": ("--checkpoint", "cls/cifar10.yaml", "--data", "data"),
    }.get(command, ("--config", f"{CONFIGS.get(command)}", "--print_config"))
    done = run(program, command, *words, cwd=tmp_path, check=False)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "preview" not in line]
    assert re.fullmatch(rf"{command}: needs \w+: pip install 'igcv3det\[train\]'", line)


def test_research_needs_a_clone(program, tmp_path):
    for command in RESEARCH:
        done = run(program, command, "--help", cwd=tmp_path, check=False)
        assert done.returncode == 1
        assert "from a clone" in done.stderr


def test_the_wheel_holds_package_configurations_and_weights(wheel, tmp_path):
    shutil.unpack_archive(wheel, tmp_path, "zip")
    held = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    package = [path for path in (ROOT / "igcv3det").rglob("*") if path.suffix != ".pyc"]
    expected = {path.relative_to(ROOT) for path in package if path.is_file()}
    expected |= {
        Path("igcv3det") / path.relative_to(ROOT)
        for path in (ROOT / "configs").rglob("*")
        if path.is_file()
    }
    assert {path for path in held if path.parts[0] == "igcv3det"} == expected
    assert {path.parts[0] for path in held - expected} == {
        f"igcv3det-{wheel.name.split('-')[1]}.dist-info"
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_help_without_the_extras(program, tmp_path, command):
    done = run(program, command, "--help", cwd=tmp_path)
    assert done.stdout.startswith(f"usage: igcv3det {command} ")


@pytest.mark.slow
def test_a_real_installation(wheel, tmp_path):
    """Of the wheel and its dependencies, from a registry."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", wheel],
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no registry: {done.stderr.strip().splitlines()[-1]}")
    write_image(tmp_path / "photo.png", np.zeros((60, 80, 3), dtype=np.uint8))
    program = tmp_path / "venv" / "bin" / "igcv3det"
    run(program, "predict", "photo.png", "--json", "found.json", cwd=tmp_path)
    assert len(json.loads((tmp_path / "found.json").read_text())) == 1


def test_every_module_of_an_extra_is_known_by_name():
    extras = setup_cfg()["options.extras_require"]
    for extra, modules in EXTRAS.items():
        lines = [line for line in extras[extra].split("\n") if line and not line.startswith("#")]
        assert {name.replace("-", "_") for name in requirements(lines)} == modules, extra
