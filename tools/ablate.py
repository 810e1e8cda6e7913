"""Runs a list of experiments with seeds and writes tables and curves.

The command line is that of `research.ablation.cli`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the clone's own package

from research.ablation.cli import main

if __name__ == "__main__":
    sys.exit(main())
