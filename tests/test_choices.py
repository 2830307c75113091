"""The values of a variable in the branches of a script, against every way through them."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from vfio_hooks.shell.choices import Branch, Path, values_at
from vfio_hooks.shell.expansion import UNKNOWN

COUNTS = (2, 3, 2, 2)
"""How many branches the `if` at each line has."""


def a_path(indices: dict[int, int]) -> Path:
    return tuple(
        Branch("file", line, 0, (index % COUNTS[line],), COUNTS[line])
        for line, index in indices.items()
    )


def stands(path: Path, way: tuple[int, ...]) -> bool:
    return all(way[branch.line] in branch.indices for branch in path)


paths = st.builds(a_path, st.dictionaries(st.integers(0, 3), st.integers(0, 2), max_size=3))


@given(st.lists(paths, max_size=6), paths)
def test_each_way_has_the_value_that_was_given_last(given_on: list[Path], here: Path) -> None:
    history = [(path, str(number)) for number, path in enumerate(given_on)]
    found = values_at(history, here)
    for way in product(*map(range, COUNTS)):
        values = [value for path, value in history if stands(path, way)]
        if values and stands(here, way):
            assert {value for path, value in found if stands(path, way)} in (
                {values[-1]},
                {UNKNOWN},
            )


def test_too_many_ways_are_not_told_apart() -> None:
    """Each of these would double them."""
    history = [
        (tuple(Branch("file", line + more, 0, (0,), 2) for more in (0, 1)), str(line))
        for line in range(0, 60, 2)
    ]
    assert values_at(history, ()) == [((), UNKNOWN)]
