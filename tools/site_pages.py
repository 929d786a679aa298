"""Hook of mkdocs: the README, that of benchmarks/ and the licence are pages of the site, too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[1]
PAGES = {"index.md": "README.md", "benchmarks.md": "benchmarks/README.md", "licence.md": "LICENSE"}
"""Page -> the file that it is, from the repository's root."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages; links are those of the place where the file lies, and become those of docs/."""
    from mkdocs.structure.files import File

    for page, source in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=as_page(text)))
    return files


def as_page(text: str) -> str:
    """Point links to files of docs/ at their pages, and those to another such file at its own."""
    text = re.sub(r"\]\((?:\.\./)?docs/", "](", text)
    for page, source in PAGES.items():
        text = text.replace(f"]({source}", f"]({page}")
    return text
