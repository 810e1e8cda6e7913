"""The options of a training command, read from its source code.

The parser of a training command takes its options from signatures and dataclasses, which it has to
import, and PyTorch and Lightning with them; that takes seconds. Here the same options are found in
the syntax trees of the same files. A test compares both lists.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

PACKAGE = "igcv3det"
TRAINER = ("pytorch_lightning.trainer.trainer", "Trainer")
TRAINER_DEFAULTS = "TRAINER_DEFAULTS"

Node = TypeVar("Node", bound=ast.AST)


class Option(NamedTuple):
    """One option.

    Attributes:
        key: dotted, without dashes.
        kind: its type as the source has it; "" for a group of options.
        default: as the source has it; None where the option must be given, and for groups.
        help: its description.
    """

    key: str
    kind: str
    default: str | None
    help: str


class Options(NamedTuple):
    """What a training command takes.

    Attributes:
        options: those of the run, trainer, model and data; of the trainer only if Lightning is
            installed.
        renamed: old keys, which still work, to new ones.
    """

    options: tuple[Option, ...]
    renamed: dict[str, str]


class Found(NamedTuple):
    """A class, a function or the value of a name, and the module that it stands in."""

    module: str
    node: ast.AST


@functools.cache
def read_options(module: str, name: str) -> Options:
    """The options of a command.

    Args:
        module: of its command line class, a `RunCLI`.
        name: of that class.
    """
    lineage = list(_lineage(_class(module, name)))
    linked = _link_targets(lineage)
    options = [*_added(lineage), *_trainer(lineage)]
    for group, attribute in (("model", "module"), ("data", "data")):
        options.append(Option(group, "", None, f"YAML file of the options under {group}"))
        own = next(_attributes(lineage, attribute))
        assert isinstance(own.node, ast.Name)
        options += _parameters(_class(own.module, own.node.id), group, linked)
    renamed: dict[str, str] = {}
    for found in _attributes(lineage, "renamed"):
        assert isinstance(found.node, ast.Dict)
        pairs = zip(found.node.keys, found.node.values, strict=True)
        renamed |= {
            ast.literal_eval(old): ast.literal_eval(new) for old, new in pairs if old is not None
        }
    return Options(tuple(options), renamed)


def _link_targets(lineage: Iterable[Found]) -> frozenset[str]:
    """Keys that are no options, because they get the value of another key."""
    tables = [*_attributes(lineage, "links"), *_attributes(lineage, "built_links")]
    pairs = [pair for found in tables for pair in ast.literal_eval(ast.unparse(found.node))]
    return frozenset(target for _, target in pairs)


def _trainer(lineage: Iterable[Found]) -> Iterator[Option]:
    """Options of Lightning's Trainer, with the defaults that the run gives them."""
    trainer = _find(*TRAINER)
    if trainer is None:
        return
    tables = [_find(found.module, TRAINER_DEFAULTS) for found in lineage]
    (changed,) = {found for found in tables if found is not None}
    defaults = ast.literal_eval(ast.unparse(changed.node))
    yield Option("trainer", "", None, "YAML file of the options under trainer")
    for option in _parameters(trainer, "trainer", frozenset()):
        name = option.key.removeprefix("trainer.")
        yield option._replace(default=repr(defaults[name])) if name in defaults else option


def _added(lineage: list[Found]) -> Iterator[Option]:
    """Options that the class and its bases add by ``parser.add_argument``."""
    options: dict[str, Option] = {}
    for found in reversed(lineage):
        for call in _parser_calls(found):
            given = {keyword.arg: keyword.value for keyword in call.keywords}
            function = ast.unparse(call.func)
            if function == "parser.add_argument":
                key = ast.literal_eval(call.args[0]).removeprefix("--")
                kind, default = ast.unparse(given["type"]), ast.unparse(given["default"])
                options[key] = Option(key, kind, default, ast.literal_eval(given["help"]))
            elif function == "parser.set_defaults":
                for key, value in given.items():
                    if key in options:
                        options[key] = options[key]._replace(default=ast.unparse(value))
    yield from options.values()


def _parser_calls(found: Found) -> Iterator[ast.Call]:
    """Calls in a class or function, and in the functions to which it passes the parser alone."""
    for call in _of_type(ast.walk(found.node), ast.Call):
        yield call
        if isinstance(call.func, ast.Name) and [ast.unparse(a) for a in call.args] == ["parser"]:
            function = _find(found.module, call.func.id)
            if function is not None:
                yield from _parser_calls(function)


def _parameters(found: Found, prefix: str, linked: frozenset[str]) -> Iterator[Option]:
    """Options of a class that takes them in ``__init__``."""
    assert isinstance(found.node, ast.ClassDef)
    (function,) = (
        own for own in _of_type(found.node.body, ast.FunctionDef) if own.name == "__init__"
    )
    texts = _arguments(ast.get_docstring(found.node)) | _arguments(ast.get_docstring(function))
    given = function.args
    positional = given.args[1:]
    absent = [None] * (len(positional) - len(given.defaults))
    pairs = zip(
        [*positional, *given.kwonlyargs],
        [*absent, *given.defaults, *given.kw_defaults],
        strict=True,
    )
    for argument, default in pairs:
        key = f"{prefix}.{argument.arg}"
        text = texts.get(argument.arg, "")
        assert argument.annotation is not None
        yield from _option(Found(found.module, argument.annotation), key, default, text, linked)


def _fields(found: Found, prefix: str, linked: frozenset[str]) -> Iterator[Option]:
    """Options of a dataclass; the string after a field describes it."""
    assert isinstance(found.node, ast.ClassDef)
    body = found.node.body
    for statement, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                text = str(after.value.value)
            annotation = Found(found.module, statement.annotation)
            key = f"{prefix}.{statement.target.id}"
            yield from _option(annotation, key, statement.value, text, linked)


def _option(
    annotation: Found, key: str, default: ast.expr | None, text: str, linked: frozenset[str]
) -> Iterator[Option]:
    """The option of a parameter or field, or those of the dataclass that is its type."""
    if key in linked:
        return
    text = " ".join(text.split())
    kind = annotation
    if isinstance(kind.node, ast.Name):
        kind = _find(kind.module, kind.node.id) or kind
    if isinstance(kind.node, ast.ClassDef):
        yield Option(key, "", None, text)
        yield from _fields(kind, key, linked)
        return
    if isinstance(default, ast.Name):
        value = _find(annotation.module, default.id)
        default = value.node if value and isinstance(value.node, ast.expr) else default
    yield Option(key, ast.unparse(kind.node), ast.unparse(default) if default else None, text)


def _arguments(docstring: str | None) -> dict[str, str]:
    """The descriptions under ``Args:`` of a docstring, by name."""
    texts: dict[str, str] = {}
    name, inside = "", False
    for line in (docstring or "").splitlines():
        indent = len(line) - len(line.lstrip())
        if line.strip() and not indent:
            inside = line.strip() == "Args:"
        elif inside and indent == 4:
            name, _, text = line.strip().partition(":")
            texts[name] = text
        elif inside and line.strip():
            texts[name] += f" {line.strip()}"
    return texts


def _attributes(lineage: Iterable[Found], name: str) -> Iterator[Found]:
    """The values of a class attribute, that of the class itself first."""
    for found in lineage:
        assert isinstance(found.node, ast.ClassDef)
        value = _assigned(found.node.body, name)
        if value is not None:
            yield Found(found.module, value)


def _lineage(found: Found) -> Iterator[Found]:
    """A class and its bases in this package."""
    yield found
    assert isinstance(found.node, ast.ClassDef)
    for base in _of_type(found.node.bases, ast.Name):
        parent = _find(found.module, base.id)
        if parent is not None:
            yield from _lineage(parent)


def _class(module: str, name: str) -> Found:
    found = _find(module, name)
    assert found is not None
    assert isinstance(found.node, ast.ClassDef)
    return found


@functools.cache
def _find(module: str, name: str) -> Found | None:
    """The class, function or value of a name in a module, wherever in this package it is from."""
    tree = _tree(module)
    if tree is None:
        return None
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef) and statement.name == name:
            return Found(module, statement)
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith(PACKAGE):
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    return _find(str(statement.module), alias.name)
    value = _assigned(tree.body, name)
    return Found(module, value) if value is not None else None


def _assigned(body: Iterable[ast.stmt], name: str) -> ast.expr | None:
    for statement in body:
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets = [statement.target]
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return statement.value
    return None


def _of_type(nodes: Iterable[ast.AST], kind: type[Node]) -> Iterator[Node]:
    return (node for node in nodes if isinstance(node, kind))


@functools.cache
def _tree(module: str) -> ast.Module | None:
    """The syntax tree of a module; None where its package is not installed."""
    top, *parts = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0], *parts)
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))
