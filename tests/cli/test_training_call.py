"""What is known of a training command before torch: compared with its own parser."""

import importlib
from pathlib import Path

import pytest

from igcv3det.cli import distill, train, train_cls, train_task
from igcv3det.cli.source_options import read_options
from igcv3det.cli.training_call import check_call

ROOT = Path(__file__).resolve().parent.parent.parent
COMMANDS = {"train": train, "train-cls": train_cls, "distill": distill}


class ParserBuilt(Exception):  # noqa: N818
    """Carries the parser out of Lightning's class."""


def full_parser(source):
    """The parser that jsonargparse builds from the imported signatures."""
    program = getattr(importlib.import_module(source[0]), source[1])

    class Stopped(program):
        def parse_arguments(self, parser, args):
            raise ParserBuilt(parser)

    with pytest.raises(ParserBuilt) as built:
        Stopped([])
    return built.value.args[0]


@pytest.mark.parametrize("module", [*COMMANDS.values(), train_task], ids=lambda m: m.__name__)
def test_the_options_are_those_of_the_parser(module):
    source = module.PROGRAM
    parser = full_parser(source)
    own = {option.key: option for option in read_options(*source).options}
    words = {word for action in parser._actions for word in action.option_strings}
    expected = {
        word.removeprefix("--")
        for word in words
        if word.startswith("--") and not word.endswith((".help", "+"))
    } - {"help", "config", "print_config"}
    assert own.keys() == expected
    defaults = parser.get_defaults()
    for key, option in own.items():
        if option.kind and option.default is not None:
            assert defaults[key] == eval(option.default), key


@pytest.mark.parametrize("name", COMMANDS)
def test_help_describes_every_option(name, capsys):
    assert COMMANDS[name].main(["--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: igcv3det {name} --config FILE")
    for option in read_options(*COMMANDS[name].PROGRAM).options:
        assert f"  --{option.key} <" in text
        assert option.help, option.key


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--data.nope", "3"], "unrecognized arguments: --data.nope"),
        (["--lr", "3"], "unrecognized arguments: --lr; did you mean --model.optim.lr?"),
        (["-x"], "unrecognized arguments: -x"),
        (
            ["--trainer.max_epochs", "x"],
            "argument --trainer.max_epochs: must be int | null, got 'x'",
        ),
        (["--trainer.max_epochs=x"], "argument --trainer.max_epochs: must be int | null, got 'x'"),
        (["--data.batch_size", "1.5"], "argument --data.batch_size: must be int, got '1.5'"),
        (["--data.root"], "argument --data.root: expected one argument"),
        (["--data.root", "--tensorboard"], "argument --data.root: expected one argument"),
        (["--model.optim.optimizer", "adam"], "argument --model.optim.optimizer: must be "),
        (["--tensorboard", "maybe"], "argument --tensorboard: must be bool, got 'maybe'"),
        (["--config", "{bad}"], "bad.yaml: no such key: model.optim.lrr; did you mean "),
        (["--config", "{text}"], "text.yaml: not readable as YAML"),
        (["--trainer.max_epochs", "1"], "the following arguments are required: --data.root"),
        ([], "a data set is required (igcv3det train DATA), or --config FILE"),
    ],
    ids=lambda value: " ".join(value[:1]) if isinstance(value, list) else "",
)
def test_wrong_calls(args, complaint, tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text("model: {optim: {lrr: 1}, detector: {image_size: 32}}")
    (tmp_path / "text.yaml").write_text("a: [")
    files = {"{bad}": tmp_path / "bad.yaml", "{text}": tmp_path / "text.yaml"}
    assert train.main([str(files.get(word, word)) for word in args]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("igcv3det train: ")
    assert complaint in first
    assert second == "  (all options: igcv3det train --help)"


def test_a_configuration_that_is_not_there(capsys):
    assert train.main(["--config", "igcv3_shape"]) == 1
    line = "train: igcv3_shape: no such file; configurations of the package: igcv3_shapes"
    assert capsys.readouterr().err.startswith(line)


@pytest.mark.parametrize(
    "args",
    [
        ["--trainer.max_steps", "-1", "--model.optim.lr", "1e-3", "--data.batch_size=4"],
        ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor", "val/AP"],
        ["--trainer.logger.init_args.save_dir", "x", "--trainer.callbacks.help=EarlyStopping"],
        ["--model.optim.ema_decay", "null", "--model.compile", "false"],
        ["--model.optim", "{x: 1}", "--trainer.max_epo", "3", "--print_config=skip_default"],
        ["--model.detector.backbone.repeats", "[1, 2, 3, 4, 3, 3, 1]"],
        ["--debug", "--data.strict", "true"],
    ],
    ids=lambda args: args[0],
)
def test_calls_for_the_parser_to_judge(args):
    words = [*args, "--data.root", "x"]
    expected = [word for word in words if word != "--debug"]
    assert check_call("train", train.PROGRAM, train.__doc__, words) == expected


def test_renamed_options_are_known():
    for module in COMMANDS.values():
        for old in read_options(*module.PROGRAM).renamed:
            check_call("train", module.PROGRAM, "", [f"--{old}", "x", "--print_config"])


def test_configurations_by_name():
    words = ["-c", "igcv3_shapes", "--config=debug", "--data.root", "igcv3_shapes"]
    first, shapes, second, *rest = check_call("train", train.PROGRAM, "", words)
    assert (first, Path(shapes)) == ("-c", ROOT / "configs" / "igcv3_shapes.yaml")
    assert second == f"--config={ROOT / 'configs' / 'debug.yaml'}"
    assert rest == words[3:]
