"""How a wrong call is answered."""

from __future__ import annotations

import sys
from typing import NoReturn

from pytorch_lightning.cli import LightningArgumentParser


class OneLineParser(LightningArgumentParser):
    """Answers a wrong call with what is wrong; LightningCLI's usage alone is sixty lines."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Writes the message and ends the program.

        Raises:
            SystemExit: status 2.
        """
        reason = " ".join(message.split())
        sys.stderr.write(f"{self.prog}: {reason}\n  (all options: {self.prog} --help)\n")
        raise SystemExit(2) from ex
