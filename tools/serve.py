"""The command ``igcv3det serve`` from a clone; ``--help`` shows its options."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the clone's own package

from igcv3det.cli.serve import main

if __name__ == "__main__":
    sys.exit(main())
