"""``python -m igcv3det COMMAND ...``."""

import sys

from igcv3det.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
