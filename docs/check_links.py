"""Check the links between files: every target exists, and so does every anchor in it.

    python docs/check_links.py docs/_build/html README.md CHANGELOG.md

A folder is a built site; its `.html` files are checked. A Markdown file is checked by itself.
Links to other hosts are not followed, so that the check needs no network.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".md":
            text = MarkdownIt("commonmark").enable("table").render(text)
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element refers to, and its name."""
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)


@cache
def read(path: Path) -> Page:
    """Return a page, parsed once."""
    return Page(path)


def broken_links(path: Path) -> Iterator[str]:
    """Yield the links of a page that lead to no file, or to no place in it."""
    for link in read(path).links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = path.parent / unquote(parts.path) if parts.path else path
        if not target.exists():
            yield f"{path}: {link}: the file does not exist"
            continue
        anchor = unquote(parts.fragment) if target.suffix == ".html" else ""
        if anchor and anchor not in read(target.resolve()).anchors:
            yield f"{path}: {link}: the anchor does not exist"


def main(arguments: list[str]) -> int:
    """Print the broken links; return 1 if there are any."""
    pages: list[Path] = []
    for path in map(Path, arguments):
        found = sorted(path.rglob("*.html")) if path.is_dir() else [path]
        pages += [page.resolve() for page in found if "_static" not in page.parts]
    if not pages:
        print("no pages to check", file=sys.stderr)
        return 1
    broken = [message for page in pages for message in broken_links(page)]
    print(*broken, sep="\n", end="\n" if broken else "", file=sys.stderr)
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
