"""Page files: a small Markdown, with places for what the program knows itself.

# NAME(SECTION): summary      the first line
## Section, ### Part          headings
paragraphs                    `bold` is what is to be typed
    indented lines            an example, set as it is
tag                           an item of a list
: text, on any number
  of lines
{name}                        what the function of this name in PARTS adds
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from manual import check, command, config, modules
from manual.roff import Page, paragraphs
from vfio_hooks import __version__

FOLDER = Path(__file__).parent / "pages"
PARTS: Mapping[str, Callable[[Page], None]] = {
    **command.PARTS,
    **config.PARTS,
    **check.PARTS,
    **modules.PARTS,
}


def make(name: str) -> str:
    """A finished page, such as "vfio-hooks.1", as man(7) reads it."""
    title, *blocks = source(name)
    found = re.fullmatch(r"# (\S+)\((\d)\): (.+)", title)
    if not found or f"{found[1]}.{found[2]}" != name:
        raise ValueError(f"{name}.md: the first line is not `# NAME(SECTION): summary`")
    page = Page(found[1], int(found[2]), f"vfio-hooks {__version__}", found[3])
    for block in blocks:
        _add(page, block)
    return str(page)


def source(name: str) -> list[str]:
    """The blocks of a page's file."""
    return paragraphs((FOLDER / f"{name}.md").read_text(encoding="utf-8"))


def items(name: str, section: str = "") -> list[tuple[str, str]]:
    """The items of the lists in a page's file, each with its tag and its text; those below the
    heading `section` only, where one is named."""
    blocks = source(name)
    if section:
        blocks = blocks[blocks.index(f"## {section}") + 1 :]
        ends = [number for number, block in enumerate(blocks) if block.startswith("## ")]
        blocks = blocks[: ends[0]]
    return [item for block in blocks if (item := _item(block))]


def _add(page: Page, block: str) -> None:
    if block.startswith("## "):
        page.section(block.removeprefix("## "))
    elif block.startswith("### "):
        page.part(block.removeprefix("### "))
    elif block.startswith("{") and block.endswith("}"):
        PARTS[block[1:-1]](page)
    elif item := _item(block):
        page.item([item[0]], item[1])
    else:
        page.prose(block)


def _item(block: str) -> tuple[str, str] | None:
    tag, _, text = block.partition("\n: ")
    return (tag, " ".join(text.split())) if text and "\n" not in tag else None
