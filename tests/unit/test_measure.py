"""Which test rows an expensive opponent is asked; what the manifest asks of the installer."""

import importlib.metadata
from types import SimpleNamespace

import torch

import finesmith
from finesmith import measure
from finesmith.data.split import spread
from finesmith.types import Example, Origin


def rows(count):
    return [Example(str(n), f"text {n}", f"label {n // 10}", Origin("f", n + 1)) for n in range(count)]


def test_a_part_of_the_rows_covers_a_file_that_is_sorted_by_label():
    chosen = spread(rows(100), 20)
    assert len(chosen) == 20
    assert len({row.target for row in chosen}) == 10
    assert [row.id for row in chosen] == sorted({row.id for row in chosen}, key=int)


def test_all_rows_are_taken_where_they_fit():
    assert spread(rows(7), 20) == rows(7)
    assert len(spread(rows(7), 6)) == 6


def test_a_checkout_on_the_path_is_enough_for_the_manifest(monkeypatch):
    asked = importlib.metadata.version

    def version(name):
        assert name != "finesmith", "it may not be installed"
        return asked(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    model = SimpleNamespace(name="embedded", quantize="none")
    recipe = SimpleNamespace(seed=0, model=model, method="full", task="text")
    loaded = SimpleNamespace(
        device=torch.device("cpu"), dtype=torch.float32, model=SimpleNamespace(config=SimpleNamespace())
    )
    found = measure.manifest(SimpleNamespace(recipe=recipe, loaded=loaded, data=[0] * 7), SimpleNamespace(steps=3))
    assert found["finesmith"] == finesmith.__version__ and found["quantize"] == "none"
    assert found["sequences"] == 7, "what `scratch` and `lora_or_full` plan their steps with"
