"""The house rules that no linter knows: sizes, a short main path, no import cycles, documented names, one version."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import tomllib
from pathlib import Path

import pytest
from tools.house import MAIN_PATH, cycles, full_folders, function_lines, functions, hops, modules

import labels4free

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "labels4free"
SOURCES = sorted(PACKAGE.rglob("*.py"))
ALL_PYTHON = SOURCES + sorted(p for room in ("tests", "benchmarks", "tools") for p in (ROOT / room).rglob("*.py"))

FILE_LINES = 400
FUNCTION_LINES = 60
FOLDER_MODULES = 16  # at one level; verbs, in cli/, may be as many as they like
PATH_FILES, PATH_LINES = 6, 1300  # the main path, which tools/house.py lists
README_LINES = 150

PUBLIC_NAMES = [
    "GeneratorConfig",
    "Labels4FreeError",
    "LayeredGenerator",
    "Segmenter",
    "SegmenterConfig",
    "TrainConfig",
    "__version__",
    "load_alpha_network",
    "load_generator",
    "open_pairs",
    "sample_dataset",
    "train_alpha_network",
    "train_generator",
    "train_segmenter",
]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", ALL_PYTHON, ids=name_of)
def test_file_fits_the_budget(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= FILE_LINES, f"{name_of(path)} has {lines} lines, at most {FILE_LINES}: split it"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_functions_fit_the_budget(path):
    too_long = {f.name: n for f in functions(path) if (n := function_lines(f)) > FUNCTION_LINES}
    assert not too_long, f"at most {FUNCTION_LINES} lines a function"


def test_no_room_is_too_full():
    too_full = {name: n for name, n in full_folders(PACKAGE).items() if n > FOLDER_MODULES and name != "cli"}
    assert not too_full, f"at most {FOLDER_MODULES} modules at one level: make a room of those that belong together"


def test_the_main_path_is_short():
    paths = [modules(PACKAGE)[f"labels4free.{name}"] for name in MAIN_PATH]
    assert len(paths) <= PATH_FILES
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths) <= PATH_LINES


def test_the_main_path_is_what_it_is_said_to_be():
    assert [hop for hop in hops(PACKAGE) if hop.startswith("nothing")] == []


def test_no_module_imports_itself_by_way_of_others():
    assert cycles(PACKAGE, typing=True) == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_argument_and_result_is_annotated(path):
    for function in functions(path):
        arguments = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
        arguments += [a for a in (function.args.vararg, function.args.kwarg) if a]
        bare = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
        assert not bare, f"{function.name}: {', '.join(bare)} without a type"
        assert function.returns is not None, f"{function.name} does not say what it returns"


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parent.name != "cli"], ids=name_of)
def test_the_library_does_not_print(path):
    calls = (node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    assert not [c.lineno for c in calls if isinstance(c, ast.Name) and c.id == "print"], "use logging"


def module_names() -> list[str]:
    found = pkgutil.walk_packages(labels4free.__path__, prefix="labels4free.")
    return ["labels4free", *(module.name for module in found if not module.name.endswith("__main__"))]


@pytest.mark.parametrize("name", module_names())
def test_public_things_are_documented(name):
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} does not say what it is for"
    for public, value in vars(module).items():
        if public.startswith("_") or getattr(value, "__module__", None) != name:
            continue
        if inspect.isfunction(value):
            assert value.__doc__, f"{public} has no docstring"
        elif inspect.isclass(value):
            assert value.__doc__, f"{public} has no docstring"
            assert undocumented_methods(value) == []


def undocumented_methods(cls: type) -> list[str]:
    """Public methods without a docstring of their own or, for an override, of the method they override.

    ``forward`` must have its own: PyTorch's says nothing of shapes.
    """
    bare = []
    for name, member in vars(cls).items():
        function = inspect.unwrap(getattr(member, "__func__", getattr(member, "fget", member)))
        if name.startswith("_") or not inspect.isfunction(function):
            continue
        if not (function.__doc__ if name == "forward" else inspect.getdoc(getattr(cls, name))):
            bare.append(f"{cls.__name__}.{name}")
    return bare


def test_public_names_are_frozen():
    assert sorted(labels4free.__all__) == PUBLIC_NAMES
    assert set(PUBLIC_NAMES) <= set(dir(labels4free))


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_public_name_can_be_had(name):
    value = getattr(labels4free, name)
    assert value is not None
    if name != "__version__":
        assert value.__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'labels4free' has no attribute 'train_everything'"):
        _ = labels4free.train_everything


def test_there_is_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == labels4free.__version__


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "src" / "labels4free" / "py.typed").is_file()


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES
