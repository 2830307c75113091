"""Whether tests such as [ A = B ] && [ C = D ] hold, as far as that is known before the script
runs."""

import operator
from collections.abc import Callable, Collection, Sequence

from vfio_hooks.shell.expansion import UNKNOWN
from vfio_hooks.shell.tokens import Word
from vfio_hooks.shell.tree import Block, Node, Pipe, Simple

_TESTS = ("[", "[[", "test")
_NUMBERS = {
    **{"-eq": operator.eq, "-ne": operator.ne, "-lt": operator.lt, "-le": operator.le},
    **{"-gt": operator.gt, "-ge": operator.ge},
}

_LOOKS = (
    *("lsmod", "lspci", "lsusb", "pgrep", "pidof", "lsof", "fuser", "command", "which", "type"),
    *("hash", "systemctl", "rc-service", "sv", "mountpoint", "modinfo", "ls", "echo"),
)


def guards(decides: Sequence[Node]) -> bool:
    """Whether these commands only look whether something is there, or runs."""
    return bool(decides) and all(map(_looks, decides))


def _looks(node: Node) -> bool:
    match node:
        case Block(kind="&&" | "||" | "!", body=body):
            return guards(body)
        case Pipe(commands=(first, *_)):
            return _looks(first)
        case Simple(words=words) if words:
            given = [one.plain or "" for one in words[1:] if one.plain not in ("!", "]", "]]")]
            is_unary = words[0].plain in _TESTS and len(given) == 2 and given[0][:1] == "-"
            return is_unary or words[0].plain in _LOOKS
    return False


def holds(
    decides: Sequence[Node], expand: Callable[[Word], Sequence[str]], doubtful: Collection[str]
) -> bool | None:
    """Whether these commands succeed; None if that is only known at run time. `expand` returns what
    a word becomes. `doubtful` are variables that may have another value at run time."""
    node = decides[0] if len(decides) == 1 else None
    if isinstance(node, Block) and node.kind in ("&&", "||", "!"):
        return _sum(node.kind, [holds((one,), expand, doubtful) for one in node.body])
    if not isinstance(node, Simple) or not node.words or node.words[0].plain not in _TESTS:
        return None
    if is_doubtful(node.words, doubtful):
        return None
    words = ["".join(expand(word)) for word in node.words[1:]]
    return _compares(words[:-1] if words[-1:] in (["]"], ["]]"]) else words)


def is_doubtful(words: Sequence[Word], doubtful: Collection[str]) -> bool:
    """Whether one of these words has a variable that may have another value at run time."""
    pieces = (piece for word in words for piece in word.pieces)
    return any(one.kind == "variable" and one.text in doubtful for one in pieces)


def _compares(words: list[str]) -> bool | None:
    for option, kind in (("-o", "||"), ("-a", "&&")):
        if option in words[1:]:
            place = words.index(option, 1)
            return _sum(kind, [_compares(words[:place]), _compares(words[place + 1 :])])
    if len(words) != 3 or any(UNKNOWN in word or "*" in word for word in (words[0], words[2])):
        return None
    if words[1] in _NUMBERS and words[0].isdecimal() and words[2].isdecimal():
        return bool(_NUMBERS[words[1]](int(words[0]), int(words[2])))
    same = words[0] == words[2]
    return {"=": same, "==": same, "!=": not same}.get(words[1])


def _sum(kind: str, each: Sequence[bool | None]) -> bool | None:
    """The result of "!", "&&" or "||" on these."""
    if kind == "!":
        return None if each[0] is None else not each[0]
    decides = kind == "||"
    if decides in each:
        return decides
    return None if None in each else not decides
