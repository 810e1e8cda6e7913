"""The command ``igcv3det make-masks`` from a clone; ``--help`` shows its options."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the clone's own package

from igcv3det.cli.make_masks import main

if __name__ == "__main__":
    sys.exit(main())
