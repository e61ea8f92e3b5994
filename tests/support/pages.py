"""Reads a page as a browser would be strict enough to: every tag closed in order, every reference resolved."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "img", "br", "hr", "input", "link", "line", "circle", "polyline"}
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    parent: Element | None = None
    children: list[Element | str] = field(default_factory=list)

    def __getitem__(self, name: str) -> str:
        return self.attributes.get(name) or ""

    @property
    def text(self) -> str:
        """All text in it, white space collapsed."""
        return " ".join(self.raw.split())

    @property
    def raw(self) -> str:
        """All text in it, as it stands."""
        return "".join(child if isinstance(child, str) else child.raw for child in self.children)

    def all(self, tag: str = "", **attributes: str) -> list[Element]:
        """Every element below of a tag and with these words in these attributes, in order; cls is class."""
        found = []
        for child in self.children:
            if isinstance(child, Element):
                wanted = {name.replace("cls", "class"): value for name, value in attributes.items()}
                if tag in ("", child.tag) and all(v in child[k].split() for k, v in wanted.items()):
                    found.append(child)
                found += child.all(tag, **attributes)
        return found

    def one(self, tag: str = "", **attributes: str) -> Element:
        found = self.all(tag, **attributes)
        assert len(found) == 1, (tag, attributes, len(found))
        return found[0]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = self.here = Element("", {})

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), f"<{tag}> has an attribute twice: {attrs}"
        element = Element(tag, dict(attrs), self.here)
        self.here.children.append(element)
        if tag not in VOID:
            self.here = element

    def handle_startendtag(self, tag, attrs):
        assert tag in VOID, f"<{tag}/> closes itself"
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        assert tag == self.here.tag, f"</{tag}> closes <{self.here.tag}> at {self.getpos()}"
        assert self.here.parent is not None
        self.here = self.here.parent

    def handle_data(self, data):
        self.here.children.append(data)


def read(text: str) -> Element:
    """The page as a tree. Raises AssertionError where tags do not close in order."""
    assert text.startswith("<!DOCTYPE html>")
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert reader.here is reader.root, f"<{reader.here.tag}> is not closed"
    return reader.root


def browse(page: str, script: str, folder: Path, *flags: str) -> dict:
    """What a script finds out in a headless browser: it runs at the end of a copy of the page, and gives a value.

    The value's ``console`` is what the browser logged of the page.
    """
    assert CHROMIUM is not None
    policy = page.index("<meta http-equiv"), page.index(">", page.index("<meta http-equiv")) + 1
    page = page[: policy[0]] + page[policy[1] :]  # which forbids any script but the page's own
    end = (
        f"<script>(async () => {{ const found = await (async () => {{ {script} }})();"
        "const out = document.createElement('pre'); out.id = 'found'; out.textContent = JSON.stringify(found);"
        "document.body.append(out); })();</script></body>"
    )
    file = folder / "copy.html"
    file.write_text(page.replace("</body>", end), encoding="utf-8")
    done = dump(file, folder, *flags)
    (found,) = re.findall(r'<pre id="found">(.*)</pre>', done.stdout)
    return {**json.loads(html.unescape(found)), "console": console(done.stderr)}


def dump(file: Path, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Load a page in a headless browser; its DOM afterwards is the output."""
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    words += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000", "--dump-dom", *flags]
    done = subprocess.run([*words, file.as_uri()], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done


def console(log: str) -> list[str]:
    """What the page itself said or did wrong, of all that the browser logs."""
    return [line for line in log.splitlines() if ":CONSOLE" in line]
