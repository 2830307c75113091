"""What udev does with events of graphics and sound cards."""

from typing import Protocol

DATABASE = "/run/udev/data"


class Files(Protocol):
    """A kernel in memory."""

    files: dict[str, str]
    announcing: list[str]


def add_card(kernel: Files, folder: str, number: str = "") -> None:
    """A card, by its folder .../drm/card1, with the number of its node if it has one."""
    kernel.files[f"{folder}/uevent"] = "DEVTYPE=...\n"
    if number:
        kernel.files[f"{folder}/dev"] = f"{number}\n"
    handle(kernel, f"{folder}/uevent", "add")


def handle(kernel: Files, name: str, action: str) -> None:
    """A write to a card's uevent file."""
    *_, subsystem, card, _ = name.split("/")
    number = kernel.files.get(name.removesuffix("uevent") + "dev", "").strip()
    record = f"{DATABASE}/" + (f"c{number}" if number else f"+{subsystem}:{card}")
    if action == "remove":
        kernel.files.pop(record, None)
    else:
        kernel.files[record] = "I:1\n"
    kernel.announcing.append(f"{action} {card}")
