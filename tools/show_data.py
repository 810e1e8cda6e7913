"""The command ``igcv3det show-data`` from a clone; ``--help`` shows its options."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the clone's own package

from igcv3det.cli.show_data import main

if __name__ == "__main__":
    sys.exit(main())
