"""The losses of a few small trainings are those that were written down: make.py makes them, losses.json holds them."""

import json

import pytest

from tests.golden.make import CASES, LOSSES, measure

GOLDEN = json.loads(LOSSES.read_text(encoding="utf-8"))


def test_every_case_is_written_down():
    assert GOLDEN.keys() == CASES.keys()


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_losses_are_as_they_were(name, tmp_path):
    found = measure(name, tmp_path / "case")
    assert found["losses"] == pytest.approx(GOLDEN[name]["losses"], abs=1e-4)
    assert found["validation"] == pytest.approx(GOLDEN[name]["validation"], abs=1e-4)
    assert len(set(found["losses"])) == len(found["losses"])
