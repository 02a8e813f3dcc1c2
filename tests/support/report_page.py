"""A page taken apart: tags in balance, and the text between them."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "link", "br", "img", "hr", "input"}
SILENT = {"script", "style"}


class Page(HTMLParser):
    """Tags, text and the blocks of data of a page.

    Raises:
        AssertionError: an element is not closed, or closed by another's tag.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.data: list[Any] = []
        self.styles: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.json = dict(attrs).get("type") == "application/json"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> at line {self.getpos()[0]}"

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            (self.data if self.json else self.scripts).append(json.loads(data) if self.json else data)
        elif self.open and self.open[-1] == "style":
            self.styles.append(data)
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def specs(self) -> list[dict[str, Any]]:
        """Specifications of plots."""
        return [block for block in self.data if (isinstance(block, dict) and "mark" in block) or "layer" in block]
