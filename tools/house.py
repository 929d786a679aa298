"""Measure the code of this repository: size, main path, full folders, import cycles, long parameter lists.

python tools/house.py [--since REVISION]

With ``--since`` the same of an earlier revision stands beside it. What must hold is in tests/test_house.py.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import tarfile
import tempfile
import tokenize
from functools import cache
from pathlib import Path
from statistics import median
from typing import NamedTuple

PACKAGE = "labels4free"
MAIN_PATH = (
    "cli.train",
    "training.alpha.run",
    "training.alpha.trainer",
    "layered",
    "networks.merge_network",
    "losses",
)
"""The files to read, in this order, to know the method: from the command line to the gradient."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


class Import(NamedTuple):
    """An import of one module of a package by another; ``names`` are what its text calls what it imported."""

    importer: str
    imported: str
    names: frozenset[str]
    typing_only: bool


@cache
def parse(path: Path) -> ast.Module:
    """Syntax tree of a Python file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def code_lines(path: Path) -> int:
    """Lines of code: those that are not blank, comment or docstring (also of a constant) alone."""
    bodies = [n.body for n in ast.walk(parse(path)) if isinstance(n, ast.Module | ast.ClassDef | Function)]
    strings = [s for body in bodies for s in body if isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant)]
    spoken = {n for s in strings if isinstance(s.value.value, str) for n in range(s.lineno, s.end_lineno + 1)}  # type: ignore[attr-defined,operator]
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    return len({n for t in tokens if t.type not in _NO_CODE for n in range(t.start[0], t.end[0] + 1)} - spoken)


def functions(path: Path) -> list[Function]:
    """Functions and methods of a file, also those inside others."""
    return [node for node in ast.walk(parse(path)) if isinstance(node, Function)]


def function_lines(function: Function) -> int:
    """Lines of a function without those of its docstring: documentation is free."""
    first = function.body[0] if ast.get_docstring(function) is not None else None
    documented = (first.end_lineno or 0) - first.lineno + 1 if first else 0
    return (function.end_lineno or 0) - function.lineno + 1 - documented


def parameters(function: Function) -> int:
    """Parameters of a function, without ``self``."""
    found = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
    return len([a for a in found if a.arg not in ("self", "cls")])


def modules(package: Path) -> dict[str, Path]:
    """Files of a package by dotted name, which begins with that of the package."""
    names = {path: path.relative_to(package.parent).with_suffix("").parts for path in sorted(package.rglob("*.py"))}
    return {".".join(p[:-1] if p[-1] == "__init__" else p): path for path, p in names.items()}


def full_folders(package: Path) -> dict[str, int]:
    """Modules at one level, by folder, the fullest first; ``__init__.py`` is not counted."""
    folders = {path.parent for path in package.rglob("*.py")}
    found = {f.relative_to(package).as_posix(): len({*f.glob("*.py")} - {f / "__init__.py"}) for f in folders}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def imports(package: Path) -> list[Import]:
    """Every import between modules of a package, inside functions too."""
    files, found = modules(package), []
    for importer, path in files.items():
        tree = parse(path)
        hardened = [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)]
        typed = {id(node) for guard in hardened for statement in guard.body for node in ast.walk(statement)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                whole = [(f"{node.module}.{alias.name}", alias.asname or alias.name) for alias in node.names]
                named = [(name if name in files else node.module or "", shown) for name, shown in whole]
            elif isinstance(node, ast.Import):
                named = [(alias.name, alias.asname or alias.name) for alias in node.names]
            else:
                continue
            for imported in sorted({name for name, _ in named} & set(files)):
                names = frozenset(shown for name, shown in named if name == imported)
                found.append(Import(importer, imported, names, id(node) in typed))
    return found


def cycles(package: Path, *, typing: bool) -> list[list[str]]:
    """Modules that import each other, in groups; ``typing``: also by imports for type checkers alone.

    The package itself is left out: it looks its public names up on first use, from every layer.
    """
    after: dict[str, set[str]] = {name: set() for name in modules(package)}
    for found in imports(package):
        if package.name not in (found.importer, found.imported) and (typing or not found.typing_only):
            after[found.importer].add(found.imported)
    reached = {name: set(direct) for name, direct in after.items()}
    for middle, beyond in reached.items():
        for far in reached.values():
            if middle in far:
                far |= beyond
    groups = {frozenset(b for b in far if a in reached[b]) for a, far in reached.items()}
    return sorted(sorted(name.removeprefix(f"{package.name}.") for name in group) for group in groups if group)


def hops(package: Path, path: tuple[str, ...] = MAIN_PATH) -> list[str]:
    """Follow a path: who leads to each of its modules but the first, and by what.

    A module leads to another by calling what it imports of it, or by naming a class of which the other has a subclass:
    so a network is reached that a module holds and calls.

    Returns:
        One line a hop; one that begins with "nothing" is a hop that does not exist.
    """
    files, between = modules(package), imports(package)
    found = []
    for number, target in enumerate(path[1:], 1):
        name = f"{package.name}.{target}"
        classes = [n for n in ast.walk(parse(files[name])) if isinstance(n, ast.ClassDef)] if name in files else []
        bases = {ast.unparse(base).split(".")[-1] for c in classes for base in c.bases}
        ways = []
        for source in reversed(path[:number]):
            mine = [i for i in between if i.importer == f"{package.name}.{source}"]
            calls = [n.func for n in ast.walk(parse(files[f"{package.name}.{source}"])) if isinstance(n, ast.Call)]
            used = {ast.unparse(call).split(".")[0] for call in calls}
            called = {n for i in mine if i.imported == name and not i.typing_only for n in i.names & used}
            held = {n for i in mine if i.imported.startswith(package.name) for n in i.names & bases}
            ways += [f"{source} {how} {', '.join(sorted(n))}" for how, n in (("calls", called), ("holds", held)) if n]
        found.append(f"{ways[0] if ways else 'nothing before leads'} -> {target}")
    return found


def beside(package: Path, path: tuple[str, ...] = MAIN_PATH) -> set[str]:
    """Modules that those of a path import at run time and that are not on it: what a reader takes on trust."""
    on = {f"{package.name}.{name}" for name in path}
    return {i.imported for i in imports(package) if i.importer in on and not i.typing_only} - on - {package.name}


def spread(numbers: list[int]) -> str:
    """Median, 90th percentile and maximum."""
    ordered = sorted(numbers)
    return f"{median(ordered):.0f} / {ordered[int(0.9 * (len(ordered) - 1))]} / {ordered[-1]}"


def size(paths: list[Path]) -> str:
    """Files, lines and code lines."""
    lines = sum(len(p.read_text(encoding="utf-8").splitlines()) for p in paths)
    return f"{len(paths)} / {lines:,} / {sum(map(code_lines, paths)):,}"


def measure(root: Path) -> dict[str, str]:
    """The table of a checkout, row by row."""
    package, table = root / "src" / PACKAGE, {}
    files = modules(package)
    for room in ("src", "tests"):
        paths = sorted((root / room).rglob("*.py"))
        table[f"{room}: files / lines / code lines"] = size(paths)
        lengths = [len(p.read_text(encoding="utf-8").splitlines()) for p in paths]
        table[f"{room}: lines of a file, median / p90 / max"] = spread(lengths)
        table[f"{room}: lines of a function"] = spread([function_lines(f) for p in paths for f in functions(p)])
    path = [files[name] for m in MAIN_PATH if (name := f"{PACKAGE}.{m}") in files]
    table["main path: files / lines / code lines"] = size(path) + f" ({len(MAIN_PATH) - len(path)} missing)"
    if len(path) == len(MAIN_PATH):
        table["what it imports besides"] = size([files[name] for name in sorted(beside(package))])
        table |= {f"  hop {n}": hop for n, hop in enumerate(hops(package), 1)}
    table["fullest folders"] = ", ".join(f"{name} {n}" for name, n in list(full_folders(package).items())[:5])
    for typing, what in ((False, "at run time"), (True, "with imports for types")):
        table[f"import cycles {what}"] = "; ".join(map(" ".join, cycles(package, typing=typing))) or "none"
    verbs = package / "cli"
    most = [(parameters(f), f.name) for p in files.values() if p.parent != verbs for f in functions(p)]
    table["most parameters (flags of verbs apart)"] = ", ".join(f"{name} {n}" for n, name in sorted(most)[-5:])
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--since", metavar="REVISION", help="an earlier revision, measured beside this checkout")
    since, root = parser.parse_args().since, Path(__file__).parents[1]
    now, then = measure(root), {}
    if since:
        command = ["git", "-C", str(root), "archive", since, "src", "tests"]
        done = subprocess.run(command, check=True, capture_output=True)
        with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")
            then = measure(Path(folder))
    for row in {**now, **then}:
        print(f"{row}: {now.get(row, '-')}" + (f"    (was {then.get(row, '-')})" if since else ""))


if __name__ == "__main__":
    main()
