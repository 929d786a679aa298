from __future__ import annotations

import re

import pytest
from tools.site_pages import PAGES, ROOT, as_page

NAVIGATION = re.findall(r"(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_links_lead_to_pages():
    text = (
        "[a](docs/method.md#x) [b](../docs/data.md) [c](benchmarks/README.md) ![d](docs/d.jpg) [e](https://e.org/docs/)"
    )
    expected = "[a](method.md#x) [b](data.md) [c](benchmarks.md) ![d](d.jpg) [e](https://e.org/docs/)"
    assert as_page(text) == expected


def test_every_guide_is_in_the_navigation():
    guides = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(NAVIGATION) == sorted({*guides, *PAGES})


@pytest.mark.parametrize("source", PAGES.values())
def test_the_pages_are_files_of_the_repository(source):
    assert (ROOT / source).is_file()
