"""Splits a COCO annotation file into one for training and one for validation.

The command line is that of `igcv3det.cli.split_data`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the clone's own package

from igcv3det.cli.split_data import main

if __name__ == "__main__":
    sys.exit(main())
