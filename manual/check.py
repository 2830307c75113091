"""What vfio-hooks-check(7) says of the findings, from the rules."""

from collections.abc import Callable

from manual.roff import Page
from vfio_hooks.check import FIRST_RANK, guest, rules
from vfio_hooks.check.rule import Area, Rule

_AREAS: tuple[Area, ...] = ("host", "hook", "domain")


def _first_rank(page: Page) -> None:
    page.prose(", ".join(f"`{name}`" for name in FIRST_RANK) + ".")


def _guest(page: Page) -> None:
    for advice in guest.ADVICE:
        page.item(["*"], advice)


def _findings(area: Area) -> Callable[[Page], None]:
    def add(page: Page) -> None:
        for rule in rules():
            if rule.area == area:
                page.item([f"`{rule.name}` ({_kind(rule)})"], f"{rule.why}\n\nFrom: {rule.source}")

    return add


PARTS = {
    "first-rank": _first_rank,
    "guest": _guest,
    **{f"findings-{area}": _findings(area) for area in _AREAS},
}


def _kind(rule: Rule) -> str:
    return rule.level if rule.sure == "certain" else f"{rule.level}, {rule.sure}"
