"""The command ``igcv3det convert-tf`` from a clone; ``--help`` shows its options."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the clone's own package

from research.convert.cli import main

if __name__ == "__main__":
    sys.exit(main())
