"""A plug-in is a file: found by its name, read for its first line, imported when it is asked for."""

import sys

import pytest

from finesmith import registry
from finesmith.errors import RecipeError, RunError

KINDS = sorted(registry.PACKAGES)


@pytest.mark.parametrize("kind", KINDS)
def test_every_plug_in_resolves_and_says_what_it_is(kind):
    names = registry.available(kind)
    assert names == sorted(set(names)) and names
    for name in names:
        assert registry.resolve(kind, name) is registry.resolve(kind, name)
        line = registry.summary(kind, name)
        assert line.endswith((".", ":", "?")) and len(line) <= 120, f"{kind}/{name}: {line}"


@pytest.mark.parametrize("kind", KINDS)
def test_helpers_and_bases_are_no_plug_ins(kind):
    assert not [name for name in registry.available(kind) if name == "base" or name.startswith("_")]


@pytest.mark.parametrize("kind", ["tasks", "methods"])
def test_tasks_and_methods_declare_their_settings(kind):
    for name in registry.available(kind):
        plugin = registry.resolve(kind, name)
        assert plugin(plugin.Settings()).settings == plugin.Settings()


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(RecipeError) as error:
        registry.resolve("methods", "lara")
    assert str(error.value) == "Unknown method 'lara'. Did you mean 'lora'? Known: full, head, last_layers, lora."
    with pytest.raises(RecipeError, match=r"^Unknown method '\.lora'\. Did you mean 'lora'\?"):
        registry.resolve("methods", ".lora")
    with pytest.raises(RecipeError, match=r"^Unknown metric 'acuracy'. Did you mean 'accuracy'\?"):
        registry.resolve("metrics", "acuracy")


def test_helpers_cannot_be_resolved():
    for name in ("base", "_template"):
        with pytest.raises(RecipeError, match=f"Unknown task '{name}'"):
            registry.resolve("tasks", name)


def test_a_dotted_name_reaches_a_file_outside(tmp_path, monkeypatch):
    (tmp_path / "own_plugins").mkdir()
    (tmp_path / "own_plugins" / "__init__.py").write_text("")
    (tmp_path / "own_plugins" / "mine.py").write_text('"""Mine."""\nPLUGIN = 42\n')
    (tmp_path / "own_plugins" / "empty.py").write_text('"""No plug-in."""\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    assert registry.resolve("methods", "own_plugins.mine") == 42
    with pytest.raises(RecipeError, match=r"^The module 'own_plugins.empty' has no PLUGIN, so it is not a method.$"):
        registry.resolve("methods", "own_plugins.empty")
    with pytest.raises(RecipeError, match=r"^Cannot import the method 'own_plugins.other': No module named"):
        registry.resolve("methods", "own_plugins.other")


def test_only_tasks_and_methods_stand_outside(tmp_path, monkeypatch):
    (tmp_path / "own_more").mkdir()
    (tmp_path / "own_more" / "mine.py").write_text("raise AssertionError")
    monkeypatch.syspath_prepend(str(tmp_path))
    for kind in set(KINDS) - {"tasks", "methods"}:
        with pytest.raises(RecipeError, match=r"^Unknown \w+ 'own_more.mine'\."):
            registry.resolve(kind, "own_more.mine")


def test_what_stands_outside_is_imported_for_a_run_where_that_was_asked_for():
    named = {"task": "generation", "method": "elsewhere.strong"}
    assert registry.outside(named) == (("methods", "elsewhere.strong"),)
    registry.require_trust({"task": "text", "method": "lora"}, "RUN", False)
    registry.require_trust(named, "RUN", True)
    with pytest.raises(RunError, match=r"^'RUN' names the method 'elsewhere.strong': Python code outside Finesmith"):
        registry.require_trust(named, "RUN", False)
    with pytest.raises(RunError, match=r"names the task 'a\.b' and the method 'c\.d': Python code"):
        registry.require_trust({"task": "a.b", "method": "c.d"}, "RUN", False)
    registry.require_trust({"task": "finesmith.errors"}, "RUN", False)  # imported: it has run


def test_listing_imports_no_plug_in():
    before = set(sys.modules)
    for kind in KINDS:
        for name in registry.available(kind):
            registry.summary(kind, name)
    assert set(sys.modules) == before
