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


@dataclass(frozen=True)
class Visit:
    """A page to open, in a window so many pixels wide, and a script that runs at its end and returns a value.

    Without a script the page is opened as it is, under its own policy.
    """

    page: str
    script: str = ""
    width: int = 800


COLLECTING = """
await new Promise((done) => addEventListener("load", done));
const found = {};
for (const frame of document.querySelectorAll("iframe")) {
  const inner = frame.contentDocument, out = () => inner.getElementById("found");
  for (let n = 0; frame.dataset.waits && !out() && n < 400; n++) await new Promise((done) => setTimeout(done, 10));
  const { scrollWidth, clientWidth } = inner.documentElement;
  const html = inner.documentElement.outerHTML;
  found[frame.name] = { ...JSON.parse(out()?.textContent ?? "{}"), html, wide: scrollWidth, window: clientWidth };
}
"""
"""Waits for the pages in all frames, and gathers what their scripts returned, their DOM and their widths."""


def browse(visits: dict[str, Visit], folder: Path) -> dict[str, dict]:
    """Open pages beside each other in one headless browser, whose start takes seconds: name → what was found out.

    That is what the visit's script returned, and ``html``, the DOM afterwards; ``wide`` and ``window``, the widths of
    the page and of its window; and ``console``, what the browser logged of the page.
    """
    frames = []
    for name, visit in visits.items():
        page = _add_script(visit.page, visit.script, "found") if visit.script else visit.page
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
        waits = 'data-waits="yes"' if visit.script else ""
        style = f"width:{visit.width}px;height:900px"
        frames.append(f'<iframe name="{name}" src="{name}.html" {waits} style="{style}"></iframe>')
    body = f'<meta http-equiv="x">{"".join(frames)}</body>'
    outer = folder / "all-pages.html"
    outer.write_text(_add_script(f"<!DOCTYPE html><body>{body}", f"{COLLECTING} return found;", "all"))
    done = _dump(outer, folder)
    (text,) = re.findall(r'<pre id="all">(.*)</pre>', done.stdout, re.S)
    found = json.loads(html.unescape(text))
    log = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return {name: found[name] | {"console": [x for x in log if f"/{name}.html" in x]} for name in visits}


def _add_script(page: str, script: str, where: str) -> str:
    """The page without its policy, which forbids any script but its own, and with one that writes what it returns."""
    policy = page.index("<meta http-equiv")
    page = page[:policy] + page[page.index(">", policy) + 1 :]
    end = (
        f"<script>(async () => {{ const found = await (async () => {{ {script} }})();"
        f"const out = document.createElement('pre'); out.id = '{where}'; out.textContent = JSON.stringify(found);"
        "document.body.append(out); })();</script></body>"
    )
    return page.replace("</body>", end)


def _dump(file: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Load a page in a headless browser; its DOM afterwards is the output."""
    assert CHROMIUM is not None
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    words += ["--allow-file-access-from-files", "--window-size=1800,1000"]
    words += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000", "--dump-dom"]
    done = subprocess.run([*words, file.as_uri()], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done
