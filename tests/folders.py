"""What lies in a folder, for tests that compare two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def content(folder: Path) -> dict[str, bytes | None]:
    """Every file (and folder: None) below a folder, by name."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}
