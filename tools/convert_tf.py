"""Converts TensorFlow's ssdlite_mobilenet_v2_coco, in TensorFlow.js form, to a checkpoint.

The command line is that of `research.convert.cli`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the clone's own package

from research.convert.cli import main

if __name__ == "__main__":
    sys.exit(main())
