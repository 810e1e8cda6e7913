"""The call of a training command, checked before torch is imported.

``--help`` and frequent mistakes are answered from the source code (`source_options`). Every other
call goes to the command's own parser, which decides: what is refused here, it would refuse too.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from igcv3det.cli.command import DEBUG, DONE, FAILED, PROGRAM, WRONG_CALL, report
from igcv3det.cli.source_options import Option, read_options
from igcv3det.config_files import find_config
from igcv3det.yaml_files import parse_yaml, read_yaml

CONFIG = ("-c", "--config")
HELP = ("-h", "--help")
PRINT_CONFIG = "--print_config"
# Types whose values are never texts
_NUMBER = r"(?:int|float|bool|None|Optional|Union|[\[\], |])+"


def check_call(name: str, source: tuple[str, str], doc: str, args: Sequence[str]) -> list[str]:
    """The arguments of a training command, with names of configurations replaced by files.

    Args:
        name: of the command.
        source: module and name of its command line class.
        doc: what ``--help`` shows above the options.
        args: as the user gave them.

    Raises:
        SystemExit: status 0 after ``--help``, 1 for a configuration that does not exist, 2 for a
            wrong call.
    """
    options, renamed = read_options(*source)
    if any(word in HELP for word in args):
        sys.stdout.write(_help(name, doc, options))
        raise SystemExit(DONE)
    call = _Call(options, renamed)
    words = [word for word in args if word != DEBUG]
    try:
        for index, option, value in _pairs(words):
            if option not in CONFIG:
                call.check_option(option, value)
            elif value is not None:
                file = find_config(value)
                words[index] = words[index].removesuffix(value) + str(file)
                call.check_mapping(read_yaml(file), f"{file}: ")
        call.check_required(words)
    except OSError as error:
        report(name, error)
        raise SystemExit(FAILED) from error
    except ValueError as error:
        sys.stderr.write(f"{PROGRAM} {name}: {error}\n  (all options: {PROGRAM} {name} --help)\n")
        raise SystemExit(WRONG_CALL) from error
    return words


class _Call:
    """Checks options and configuration files against what a command takes."""

    def __init__(self, options: Sequence[Option], renamed: Mapping[str, str]) -> None:
        self._options = {option.key: option for option in options}
        self._renamed = renamed
        self._groups = {key for key, option in self._options.items() if not option.kind}
        self._given: set[str] = set()

    def check_option(self, option: str, value: str | None) -> None:
        """Raises ValueError for an unknown option, and for a value that is none of its type."""
        if option == PRINT_CONFIG:
            return
        key = option.removeprefix("--").removesuffix("+")
        if not option.startswith("--") or not self._is_known(key):
            raise ValueError(f"unrecognized arguments: {option}{self._hint(key)}")
        if value is None:
            raise ValueError(f"argument {option}: expected one argument")
        self._given.add(key)
        if key in self._options:
            self._check_value(option, self._options[key].kind, value)

    def check_mapping(self, content: Any, file: str, prefix: str = "") -> None:  # noqa: ANN401
        """Raises ValueError for an unknown key of a configuration file."""
        if not isinstance(content, dict):
            return
        for name, inner in content.items():
            key = f"{prefix}{name}"
            if not self._is_known(key, exactly=True):
                raise ValueError(f"{file}no such key: {key}{self._hint(key)}")
            if key in self._groups and isinstance(inner, dict):
                self.check_mapping(inner, file, f"{key}.")
            else:
                self._given.add(key)

    def check_required(self, args: Sequence[str]) -> None:
        """Raises ValueError if an option is missing that has no default."""
        if PRINT_CONFIG in args or any(word.endswith(".help") for word in args):
            return
        for key, option in self._options.items():
            groups = {key[: match.start()] for match in re.finditer(r"\.", key)}
            if option.kind and option.default is None and not self._given & {key, *groups}:
                raise ValueError(f"the following arguments are required: --{key}")

    def _is_known(self, key: str, *, exactly: bool = False) -> bool:
        """Whether an option is, or may be, one of the command's.

        Classes and mappings have keys of their own, which the parser finds. The parser also takes
        the beginning of an option for the option.
        """
        if key in self._options or key in self._renamed:
            return True
        if key.startswith("trainer") and "trainer" not in self._options:
            return True  # Lightning is not installed, which is reported later
        parents = [key[: match.start()] for match in re.finditer(r"\.", key)]
        if any(parent in self._options and parent not in self._groups for parent in parents):
            return True
        return not exactly and any(known.startswith(key) for known in self._options)

    def _hint(self, key: str) -> str:
        last = key.rpartition(".")[2]
        same = [known for known in self._options if known.rpartition(".")[2] == last]
        near = difflib.get_close_matches(key, self._options, n=1, cutoff=0.7)
        return f"; did you mean --{(same or near)[0]}?" if same or near else ""

    @staticmethod
    def _check_value(option: str, kind: str, text: str) -> None:
        """Refuses texts where only numbers are possible, and values that are no choice."""
        value = parse_yaml(text)
        fraction = isinstance(value, float) and value % 1 != 0 and "float" not in kind
        if re.fullmatch(_NUMBER, kind) and (isinstance(value, str) or fraction):
            raise ValueError(f"argument {option}: must be {_shown(kind)}, got {text!r}")
        choices = _choices(kind)
        if choices and text not in choices and str(value) not in choices:
            raise ValueError(f"argument {option}: must be {_shown(kind)}, got {text!r}")


def _pairs(args: Sequence[str]) -> Iterator[tuple[int, str, str | None]]:
    """Options and their values, with the place of the value; a word without option is an option."""
    index = 0
    while index < len(args):
        option, equals, value = args[index].partition("=")
        following = args[index + 1 : index + 2]
        if equals and option.startswith("-"):
            yield index, option, value
        elif following and option != PRINT_CONFIG and not re.match(r"-[^\d.]", following[0]):
            index += 1
            yield index, args[index - 1], following[0]
        else:
            yield index, args[index], None
        index += 1


def _choices(kind: str) -> tuple[str, ...]:
    """The texts of a ``Literal``; none for other types."""
    if not re.fullmatch(r"Literal\[[^\[\]]*\]", kind):
        return ()
    return tuple(str(value) for value in ast.literal_eval(f"({kind[8:-1]},)"))


def _shown(kind: str) -> str:
    """A type as the help shows it."""
    kind = re.sub(r"Optional\[(.*)\]$", r"\1 | None", kind)
    kind = re.sub(r"Union\[(.*)\]", lambda m: m.group(1).replace(", ", " | "), kind)
    kind = re.sub(r"Literal\[([^\]]*)\]", lambda m: m.group(1).replace("'", ""), kind)
    return kind.replace("None", "null")


def _help(name: str, doc: str, options: Sequence[Option]) -> str:
    """The help text of a training command."""
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} {name}",
        usage=f"{PROGRAM} {name} --config FILE [--config FILE] [--KEY VALUE ...]",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("-c", CONFIG[1], metavar="FILE", help="configuration file, or name of a shipped one")
    add(PRINT_CONFIG, action="store_true", help="print the resulting configuration and exit")
    add(DEBUG, action="store_true", help="show the traceback of an error")
    for title in ("run", "model", "data", "trainer"):
        group = parser.add_argument_group(title)
        for option in options:
            if _title(option) == title:
                kind = _shown(option.kind) if option.kind else "YAML file"
                group.add_argument(f"--{option.key}", metavar=f"<{kind}>", help=_text(option))
    if all(_title(option) != "trainer" for option in options):
        parser.epilog = "The options of the trainer are listed if igcv3det[train] is installed."
    return parser.format_help()


def _title(option: Option) -> str:
    """The group of the help text that an option belongs to."""
    top, dot, _ = option.key.partition(".")
    return top if dot or not option.kind else "run"


def _text(option: Option) -> str:
    """Description and default; Lightning describes defaults in the text as well."""
    text = option.help
    if _title(option) == "trainer":
        text, *_ = re.split(r"\s*Default: |\. ", text)
    default = (option.default or "").strip("'").replace("None", "null")
    note = f" (default: {default})" if default else ""
    return (text.rstrip(".") + note).replace("%", "%%")
