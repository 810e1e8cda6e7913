"""The options of every training, read by LightningCLI from the dataclasses of its parts."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from jsonargparse import set_parsing_settings
from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

from igcv3det.config import RangeError, require
from igcv3det.engine.arguments import given_values, rename_options
from igcv3det.engine.parser import RunParser
from igcv3det.engine.run_folder import RunConfig

TRAINER_DEFAULTS = {
    "use_distributed_sampler": False,  # the data module's own sampler can resume
    "enable_model_summary": False,  # a detector would be one row of it
}


class RunOptions(LightningCLI):
    """Parses the command line of a training.

    Args:
        args: as of the command line; None takes ``sys.argv``.

    Attributes:
        given: the values that the user set, by dotted key.
        module: what trains.
        data: what it trains on.
        links: keys whose value is also that of another key, which is then no option. The command
            line reads these tables from the source (`cli.source_options`), so they are literals.
        built_links: the same for values that are known only once module or data are built.
        program: the command's name and what it does.
        minimums: the least value of each number among the options of the run and the trainer.
        above_zero: numbers of the trainer that must be more than 0.
        renamed: old names of keys and options, which still work, to their present ones.
    """

    given: dict[str, Any]
    module: type[LightningModule]
    data: type[LightningDataModule]
    links: ClassVar[Sequence[tuple[str, str]]]
    built_links: ClassVar[Sequence[tuple[str, str]]]
    program: tuple[str, str]
    minimums: ClassVar[Mapping[str, int]] = {
        "seed_everything": 0,
        "save_every_n_steps": 1,
        "early_stopping": 0,
        "trainer.accumulate_grad_batches": 1,
        "trainer.check_val_every_n_epoch": 1,
        "trainer.gradient_clip_val": 0,
        "trainer.limit_val_batches": 0,
        "trainer.log_every_n_steps": 0,
    }
    above_zero: ClassVar[Sequence[str]] = (
        *("trainer.limit_train_batches", "trainer.val_check_interval"),
    )
    renamed: ClassVar[Mapping[str, str]] = {"model.execution": "model.conv_impl"}

    def __init__(self, args: list[str] | None = None) -> None:
        _quieten()
        words = sys.argv[1:] if args is None else args
        # reading them takes a third of the time to start, and only the help shows them
        shows_help = any(part in word for word in words for part in ("help", "-h", "comments"))
        set_parsing_settings(docstring_parse_attribute_docstrings=shows_help)
        name, description = self.program
        super().__init__(
            self.module,
            self.data,
            args=args,
            run=False,
            trainer_defaults=TRAINER_DEFAULTS,
            save_config_callback=RunConfig,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_class=RunParser,
            parser_kwargs={"prog": f"igcv3det {name}", "description": description},
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:  # noqa: ANN401
        """Parses after renaming; what a checkpoint to start from decides becomes the default."""
        words = rename_options(sys.argv[1:] if args is None else args, self.renamed)
        assert isinstance(parser, RunParser)
        parser.renamed = self.renamed
        try:
            self.given = given_values(words, self.renamed)
        except ValueError as error:
            parser.error(str(error), error)
        parser.set_defaults(self.checkpoint_defaults(self.given))
        self.config = parser.parse_args(words)
        try:
            self.require_minimums(self.config)
        except RangeError as error:
            parser.error(str(error), error)

    @classmethod
    def require_minimums(cls, values: Mapping[str, Any]) -> None:
        """Checks what no configuration class does, before a data set is read.

        Args:
            values: by dotted key; keys may be missing, and what is no number is passed over.

        Raises:
            RangeError: a number is too small.
        """
        for key in (*cls.minimums, *cls.above_zero):
            value, least = values.get(key), cls.minimums.get(key)
            if isinstance(value, (int, float)) and least is not None:
                require(value >= least, f"{key} must be >= {least}", value)
            elif isinstance(value, (int, float)):
                require(value > 0, f"{key} must be > 0", value)

    def checkpoint_defaults(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Defaults that follow from the checkpoint which the user names, by dotted key."""
        return {}

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The seed is a number, so that every run can be repeated."""
        parser.add_argument(
            "--seed_everything",
            type=int,
            default=0,
            help="Seed of weights, order and augmentation.",
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Options of the run itself."""
        parser.add_argument(
            "--ckpt_path", type=str | None, default=None, help="Checkpoint (last.ckpt) to resume."
        )
        parser.add_argument(
            "--save_every_n_steps",
            type=int,
            default=500,
            help="Steps between two last.ckpt within an epoch.",
        )
        parser.add_argument(
            "--early_stopping",
            type=int,
            default=0,
            help="Validations without a better result after which the run ends; 0: never.",
        )
        parser.add_argument(
            "--tensorboard", type=bool, default=False, help="Write TensorBoard's files as well."
        )
        for source, target in self.links:
            parser.link_arguments(source, target)
        for source, target in self.built_links:
            parser.link_arguments(source, target, apply_on="instantiate")


def _quieten() -> None:
    """Hides Lightning's advertisement and its remarks that do not apply here; nothing else."""
    rank_zero = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    hidden = ("litlogger", "to estimate number of stepping batches")
    rank_zero.addFilter(lambda record: not any(h in record.getMessage() for h in hidden))
    for message in (
        # a short epoch is logged at its validation
        r"The number of training batches .* is smaller than the logging interval",
        # a resumed run stays in its folder
        r"Checkpoint directory .* exists and is not empty",
        # the step tells every data module of this package which batch comes next
        r"You're resuming from a checkpoint that ended before the epoch ended",
        # of Lightning 2.6 on torch 2.15
        r".*isinstance\(treespec, LeafSpec\).* is deprecated",
    ):
        warnings.filterwarnings("ignore", message=message)
