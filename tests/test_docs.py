"""What the documents say is so: the reference is up to date, the plug-ins shown in it work."""

import argparse
import importlib
import importlib.util
import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from finesmith import problems, registry, run
from finesmith import recipe as recipes
from finesmith.checks.base import Checked
from finesmith.data import read, shapes
from finesmith.metrics.base import Metric
from finesmith.runfolder import RunFolder
from finesmith.settings import Settings
from finesmith.types import Example, Message, Origin, Prediction

DOCS = Path(__file__).parents[1] / "docs"


def settings_of(owner, prefix=""):
    for name, field in owner.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            yield from settings_of(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def maker(name):
    """A program of the folder docs, as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_on_data_is_up_to_date_and_its_rows_are_read_as_it_says(tmp_path):
    written = (DOCS / "reference" / "data.md").read_text(encoding="utf-8")
    assert written == maker("make_data_reference").render(), "run: python docs/make_data_reference.py"
    shown = re.findall(r"^### `(\w+)`: task (\w+)\n.*?^```json\n(.*?)^```$", written, re.MULTILINE | re.DOTALL)
    assert {shape for shape, _, _ in shown} == shapes.SHAPES.keys()
    for shape, task, row in shown:
        (tmp_path / "rows.jsonl").write_text(row)
        dataset = read.read(tmp_path / "rows.jsonl")
        assert (dataset.shape, shapes.shape_task(dataset.shape), dataset.rejected) == (shape, task, ())


def test_the_reference_is_up_to_date_and_complete():
    module = maker("make_reference")
    written = (DOCS / "reference" / "recipe.md").read_text(encoding="utf-8")
    assert written == module.render(), "run: python docs/make_reference.py"
    named = re.findall(r"^\| `(\S+)` \|", written, re.MULTILINE)
    assert sorted(named) == sorted(settings_of(recipes.recipe_class()))


@pytest.mark.parametrize(("limit", "shown"), [(2**32, "4,294,967,296"), (1.0, "1"), (1e-4, "0.0001"), (0.95, "0.95")])
def test_a_limit_is_written_in_full(limit, shown):
    assert maker("make_reference")._values({"type": "number", "exclusiveMaximum": limit}) == f"number < {shown}"


def test_settings_of_other_systems_are_answered_as_the_page_says():
    page = (DOCS / "how-to" / "come-from-another-system.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| `([\w.]+)` \|", page, re.MULTILINE)
    assert len(rows) > 20
    for names, setting in rows:
        for name in re.findall(r"\w+", names):
            assert problems.meant_by(name, recipes.recipe_class())[0] == setting


class Parsed(Exception):
    """The options of a script, of which no more is run."""


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("verdicts", [{"cases": ["tickets", "clauses", "banking77-10"], "efforts": ["quick"]}]),
        ("coverage", [{"runs": 4000, "only": ""}, {"runs": 1000, "only": "calibration"}]),
        ("published_calibration", [{"seeds": 5, "data": Path("DATA/banking77")}]),
        ("curves", [{"seeds": 1}]),
    ],
)
def test_commands_beside_numbers_ask_for_what_stands_there(script, told, monkeypatch):
    """Of docs/explanation/evidence.md: the draws, sets and cases that the text names."""
    text = (DOCS / "explanation" / "evidence.md").read_text(encoding="utf-8")
    real = argparse.ArgumentParser.parse_args

    def parsed(parser, *_):
        raise Parsed(vars(real(parser)))

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)
    commands = re.findall(rf"`python (bench/{script}\.py[^`]*)`", text)
    assert len(commands) == len(told)
    for command, wanted in zip(commands, told, strict=True):
        monkeypatch.setattr(sys, "argv", command.split())
        with pytest.raises(Parsed) as caught:
            runpy.run_path(str(DOCS.parent / command.split()[0]), run_name="__main__")
        assert wanted.items() <= caught.value.args[0].items()


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """The plug-ins in the how-to, each as a file of the package `shown`: heading to module."""
    text = (DOCS / "how-to" / "add-a-plugin.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^## An? (\w+)\n.*?^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    package = tmp_path / "shown"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for kind, code in blocks:
        (package / f"own_{kind}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    return {kind: importlib.import_module(f"shown.own_{kind}").PLUGIN for kind, _ in blocks}


def test_the_how_to_shows_every_kind(shown):
    kinds = {kind.removesuffix("s") for kind in registry.PACKAGES}
    assert shown.keys() == kinds - {"task"}
    text = (DOCS / "how-to" / "add-a-plugin.md").read_text(encoding="utf-8")
    assert all(f"| {kind} |" in text for kind in kinds)


def test_the_method_shown_tunes(shown, clauses, models, tmp_path):
    recipe = recipes.make(
        {
            "data": str(clauses),
            "model": {"name": models("llama"), "dtype": "float32", "device": "cpu"},
            "method": "shown.own_method",
            "train": {"max_steps": 3},
            "generation": {"max_new_tokens": 2},
            "out": str(tmp_path / "run"),
        }
    )
    result = run.tune(recipe)
    assert result.evidence.costs["trainable_parameters"] == 5 * 32  # two norms a block, one at the end
    assert len(list(RunFolder(result.path).read_lines("steps.jsonl"))) == 3
    assert len(result.predict(["late parcel"])) == 1


def test_the_other_plug_ins_shown_do_what_they_say(shown, tickets, tmp_path, capsys):
    assert isinstance(shown["metric"], Metric)
    assert shown["metric"].value(["a b", "c"], [Prediction("1", "x y"), Prediction("2", "")]) == 0.5
    rows = [Example(str(n), "text", label, Origin("f", n)) for n, label in enumerate("ba")]
    assert [p.output for p in shown["baseline"](rows, [("7", "text")], seed=0)] == ["a"]
    shouted = Checked([*rows, Example("2", "LOUD", "a", Origin("f", 9))], None, None, None, "classification")
    assert [finding.rows for finding in shown["check"](shouted, None)] == [("f:9",)]
    written = [Example("1", "text", Message("assistant", "a b c d"), Origin("f", 1))]
    study = SimpleNamespace(
        recipe=SimpleNamespace(task="generation"),
        predictions={"tuned": [Prediction("1", "a b")]},
        splits=SimpleNamespace(test=written),
    )
    assert shown["measurement"].skips(study) == "" and shown["measurement"](study, None).numbers == {"share": 0.5}
    (tmp_path / "rows.pairs").write_text("a => b\nc\n")
    with (tmp_path / "rows.pairs").open("rb") as stream:
        (first, row), (second, bad) = shown["format"].rows(stream, "rows.pairs")
    assert (first, row) == (1, {"prompt": "a", "completion": "b"})
    assert second == 2 and bad.reason == "no => in the line"
    shown["command"].main(type("Options", (), {"data": str(tickets)}))
    assert int(capsys.readouterr().out) > 50


def test_the_plan_of_the_evidence_names_every_measurement():
    text = (DOCS / "explanation" / "evidence.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| .* \| (quick|standard|full) \| (\d) \|", text, re.MULTILINE)
    plugins = {name: registry.resolve("measurements", name) for name in registry.available("measurements")}
    assert {name: (effort, int(priority)) for name, effort, priority in rows} == {
        name: (plugin.effort, plugin.priority) for name, plugin in plugins.items()
    }
