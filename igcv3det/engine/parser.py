"""The parser of the training commands."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from jsonargparse import Namespace
from pytorch_lightning.cli import LightningArgumentParser

from igcv3det.engine.arguments import notify, old_keys, rename_keys
from igcv3det.engine.parse_errors import readable_reason
from igcv3det.yaml_files import dump_yaml, parse_yaml

_RENAMED = hasattr(LightningArgumentParser, "instantiate")  # since jsonargparse 4.49


class RunParser(LightningArgumentParser):
    """Takes configuration files with old names of keys; answers a wrong call with one line.

    LightningCLI's usage alone is sixty lines.

    Attributes:
        renamed: old keys to new ones.
    """

    renamed: Mapping[str, str] = {}

    def parse_string(self, content: str, *args: Any, **kwargs: Any) -> Namespace:  # noqa: ANN401
        """As jsonargparse does, after renaming the keys."""
        try:
            values = parse_yaml(content)
            old = old_keys(values, self.renamed) if isinstance(values, dict) else []
            for key in old:
                notify(key, self.renamed)
            if old:
                content = dump_yaml(rename_keys(values, self.renamed))
        except ValueError as error:
            self.error(str(error), error)
        parsed: Namespace = super().parse_string(content, *args, **kwargs)
        return parsed

    def instantiate_classes(self, cfg: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Makes the configured objects.

        Raises:
            ValueError: one of them refuses its values, or needs a package that is not installed.
        """
        try:
            if _RENAMED:
                return self.instantiate(cfg, **kwargs)
            return super().instantiate_classes(cfg, **kwargs)
        except ValueError as error:
            raise ValueError(readable_reason(str(error))) from error

    def dump_all(self, config: Namespace) -> str:
        """The configuration as YAML, nulls included."""
        return str(self.dump(config, **{"skip_unset" if _RENAMED else "skip_none": False}))

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Writes the message and ends the program.

        Raises:
            SystemExit: status 2.
        """
        reason = readable_reason(message)
        sys.stderr.write(f"{self.prog}: {reason}\n  (all options: {self.prog} --help)\n")
        raise SystemExit(2) from ex
