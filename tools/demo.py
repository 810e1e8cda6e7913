"""The main job on what the repository makes itself: draw a data set, train, evaluate, infer.

The command line is that of `igcv3det.cli.demo`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the clone's own package

from igcv3det.cli.demo import main

if __name__ == "__main__":
    sys.exit(main())
