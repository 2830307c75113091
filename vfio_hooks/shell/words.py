"""What the words of a command become when the shell expands them."""

from vfio_hooks.shell.expansion import UNKNOWN, braces, of_braces, of_place, of_variable
from vfio_hooks.shell.printed import of_code, printed
from vfio_hooks.shell.run import Run
from vfio_hooks.shell.tokens import Piece, Word
from vfio_hooks.shell.tree import Block, Node, Pipe, Simple

_ROOT = "0"
"""The user that hooks run as."""


def expanded(run: Run, file: str, word: Word, at: int = 0) -> list[str]:
    """What a word in a file becomes: several words, if an unquoted variable has blanks, or braces
    have a list. A variable without a value is noted, for the line `at` if that is not 0."""
    text, split = "", False
    for piece in word.pieces:
        value = _value(run, file, piece, at or word.line)
        blank = value == " " if piece.kind == "text" else any(map(str.isspace, value))
        split = split or (blank and not piece.quoted)
        text += value
    if not split and not any(piece.quoted for piece in word.pieces):
        return list(braces(text))
    return text.split() if split else [text]


def _value(run: Run, file: str, piece: Piece, line: int) -> str:
    if piece.kind == "text":
        return piece.text
    if piece.kind == "code":
        if piece.text.strip() == "id -u":
            return _ROOT
        known = of_braces(piece.text, run.values)
        known = known if known is not None else of_code(piece.text, run.values)
        return known if known is not None else _found(run, file, piece.text)
    if piece.text == "0":
        return file
    value = of_variable(piece.text, {"UID": _ROOT, "EUID": _ROOT, **run.values}, piece.other)
    if value is not None:
        return value
    if piece.text.isidentifier():
        run.unset.append((file, line, piece.text))
    return UNKNOWN


def _found(run: Run, file: str, code: str) -> str:
    """What $(code) prints, if it calls a function that looks for something, or looks for a place
    itself."""
    name = code.strip().split(" ", 1)[0]
    # Meanwhile it is unknown to itself.
    _, body = known = run.functions.pop(name, ("", ()))
    texts = [_printed(run, file, node) for node in body]
    if body:
        run.functions[name] = known
    found = (text for text in texts if text.startswith(UNKNOWN) and text != UNKNOWN)
    return next(found, of_place(code, file))


def _printed(run: Run, file: str, node: Node) -> str:
    """What a function's command prints. The commands before it are not followed, so a variable
    without a value is no fault."""
    unset = len(run.unset)
    text = printed([one for word in _first(node).words for one in expanded(run, file, word)], "")
    del run.unset[unset:]
    return text or ""


def _first(node: Node) -> Simple:
    """The first command in a pipe, in brackets or before &&."""
    while isinstance(node, Block | Pipe):
        node = (node.body if isinstance(node, Block) else node.commands)[0]
    return node if isinstance(node, Simple) else Simple(0)
