"""Words of the field: private names that were replaced do not come back."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# each stands where the field has a word of its own, which follows
REPLACED = {
    r"picture": "image",
    r"\brivals?\b": "baseline",
    r"drawn shapes": "synthetic shapes",
    r"sureness": "box_confidence",
    r"hopeful": "candidate_rows",
    r"\blessons?\b": "objective",
    r"contender|contestant": "benchmark target",
    r"from nothing": "from scratch",
    r"taught by": "distilled from",
    r"(?<!non-maximum )(?<!NonMax)suppression": "NMS",
    r"least score": "confidence threshold",
    r"laid[ _]?out": "remapped",
    r"as_it_is": "identity",
    r"\bgo(es)?[ _]on\b": "resumes, continues",
    r"write_whole": "atomic_write",
    r"keep_freed_memory": "tune_malloc",
    r"keep_norm_statistics": "freeze_bn_stats",
    r"process_of": "rank_and_world_size",
    r"trained_position": "resume_position",
    r"block_?form": "block variant",
    r"draw_views": "random_crops",
    r"map of the house": "repository layout",
    r"\bdoors\b": "entry points",
    r"small object detectors": "lightweight object detectors",
    r"crowded": "over_limit",
    r"raw answers": "raw head outputs",
    r"own business|must not rule": "a plain statement",
    r"\bledgers?\b|tensorledger": "constants, profile",
    r"epochmoves|epoch moves": "crops and flips",
    r"gentle rates?": "low learning rate",
    r"\bopinions?\b": "detections",
    r"nothing to learn": "zero loss",
}
ALLOWED = {
    "tests/test_words.py": set(REPLACED),
    # old names for those who look for them
    "CHANGELOG.md": set(REPLACED),
    "docs/migration.md": set(REPLACED),
    # old keys that configurations may still have
    "igcv3det/tasks/detect/train.py": {"picture", "keep_norm_statistics"},
    # the key in the description of exported files, which earlier versions read too
    "igcv3det/runtime/export_spec.py": {"suppression"},
    "igcv3det/runtime/exported.py": {"suppression"},
    "tests/test_tools_export.py": {"suppression"},
    "tests/engine/test_arguments.py": {"picture"},
    "tests/tasks/detect/test_train.py": {"picture", "keep_norm_statistics"},
}
TEXT = {".py", ".md", ".yaml", ".yml", ".cfg", ".toml", ".cjs", ".sh", ""}


def _tracked_text():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.suffix in TEXT and path.is_file():
            yield name, path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def texts():
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    return dict(_tracked_text())


@pytest.mark.parametrize("word", REPLACED)
def test_replaced_words_do_not_come_back(texts, word):
    found = []
    for name, text in texts.items():
        allowed = any(known in word for known in ALLOWED.get(name, ()))
        for match in re.finditer(word, "" if allowed else text, re.IGNORECASE):
            line = text.count("\n", 0, match.start()) + 1
            found.append(f"{name}:{line}: {match[0]}: {REPLACED[word]}")
    assert not found, "\n".join(found)
