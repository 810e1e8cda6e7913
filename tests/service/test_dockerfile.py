"""The steps of docker/Dockerfile, without Docker: its copies make a wheel that serves."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra igcv3det[serve]")

ROOT = Path(__file__).resolve().parent.parent.parent
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
CODE = "import sys; from igcv3det.cli.entry import main; sys.exit(main())"


def instructions(kind):
    return re.findall(rf"^{kind} (.*)$", DOCKERFILE, re.M)


def test_what_is_installed_exists():
    (extra,) = re.findall(r"/source\[(\w+)\]", DOCKERFILE)
    setup = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    assert re.search(rf"^{extra} =$", setup, re.M)
    assert re.search(r"^ +igcv3det = igcv3det.cli.entry:main$", setup, re.M)  # the entry point


@pytest.mark.slow
def test_the_copied_files_make_a_wheel_that_serves(tmp_path):
    """pip, without a network, builds what the image installs; it starts, is healthy and stops."""
    source = tmp_path / "source"
    for line in instructions("COPY"):
        if line.startswith("--from"):
            continue
        *names, target = line.split()
        folder = tmp_path / target.lstrip("/")
        for name in names:
            path = ROOT / name
            if path.is_dir():
                shutil.copytree(path, folder, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, folder)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*build, "--wheel-dir", tmp_path, source], capture_output=True, text=True, timeout=200
    )
    if "setuptools" in done.stderr and "No module" in done.stderr:
        pytest.skip("setuptools is not installed, and pip may fetch nothing")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    assert [json.loads(line) for line in instructions("ENTRYPOINT")] == [
        ["igcv3det", "serve", "--host", "0.0.0.0"]
    ]
    command = [sys.executable, "-c", CODE, "serve", "--host", "127.0.0.1", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as service:
        try:
            address = re.search(r"http://\S+", service.stdout.readline())[0]
            (check,) = re.findall(r'"-c", "(.*)"\]', DOCKERFILE)
            check = check.replace("http://127.0.0.1:8000", address.rstrip("/"))
            subprocess.run([sys.executable, "-c", check], check=True, timeout=30)
        finally:
            service.send_signal(signal.SIGTERM)
            service.communicate(timeout=60)
    assert service.returncode == 0
