"""Numbers of things in messages."""

import pytest

from vfio_hooks.plural import counted, numbered, verb


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 pages are"), (1, "1 page is"), (2, "2 pages are")]
)
def test_the_noun_and_the_verb_go_with_the_number(count: int, text: str) -> None:
    assert f"{counted(count, 'page')} {verb(count)}" == text


@pytest.mark.parametrize(
    ("cpus", "text"),
    [({3}, "CPU 3 has"), ({0, 1, 8}, "CPUs 0-1,8 have"), ({4, 5}, "CPUs 4-5 have")],
)
def test_a_list_of_numbers_has_its_noun_in_front(cpus: set[int], text: str) -> None:
    assert f"{numbered('CPU', cpus)} {verb(len(cpus), 'has', 'have')}" == text
