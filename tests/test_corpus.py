"""What fuzzing has come across, run again: tests/fuzz.py."""

import pytest

from tests.fuzz import TARGETS, inputs


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_but_one_line(target: str) -> None:
    kept = inputs(target)
    assert len(kept) > 10
    for data in kept:
        try:
            TARGETS[target](data)
        except Exception as error:
            error.add_note(f"with {data!r}")
            raise
