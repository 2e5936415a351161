"""The picture of the house, held by tests: who imports whom, who opens files, what is light, what must not be there."""

import ast
import importlib
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

import finesmith

SOURCE = Path(finesmith.__file__).parent
REPOSITORY = Path(__file__).parents[1]
MODULES = sorted(path for path in SOURCE.rglob("*.py") if "examples" not in path.relative_to(SOURCE).parts)
NAMES = [str(path.relative_to(SOURCE)) for path in MODULES]
LINES = 300
SECONDS = 0.3

OPENERS = {"open", "fdopen", "read_text", "write_text", "read_bytes", "write_bytes", "memmap", "fromfile", "tofile"}
OPENERS |= {
    "safe_open",
    "save_file",
    "load_file",
    "TemporaryFile",
    "TemporaryDirectory",
    "NamedTemporaryFile",
    "mkstemp",
    "mkdtemp",
}
MAY_OPEN = {
    "runfolder.py": "the run folder's only reader and writer",
    "locking.py": "holds the lock file of a folder",
    "recipe.py": "reads the recipe",
    "predictor.py": "reads and writes the card of a model folder",
    "registry.py": "reads the first line of a plug-in's source, so that nothing is imported",
    "train/batches.py": "memory maps of the training tokens",
    "train/cache.py": "what frozen layers give, in a file without a name",
    "train/state.py": "the state between two steps",
    "models/embedded.py": "reads what the embedded model is, without loading it",
    "models/between.py": "the head that a run begins with",
    "cli/_show.py": "the null device, for a pipe that nobody reads any more",
    "models/device.py": "asks the kernel for peak memory (/proc/self)",
}
"""Modules outside data/ that open files, and why; nothing else does."""
ASKED = ("write_", "read_")
"""What a module may ask of a run's folder."""


def tree(name: str) -> ast.Module:
    return ast.parse((SOURCE / name).read_text(encoding="utf-8"))


def calls(name: str) -> set[str]:
    """Names of the functions and methods that a module calls; not `folder.write_text`, which asks the run folder."""
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found.add(node.func.id)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            of_the_run = isinstance(owner, ast.Name) and owner.id == "folder" and node.func.attr.startswith(ASKED)
            found |= set() if of_the_run else {node.func.attr}
    return found


def test_the_layers_hold():
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Contracts: [1-9]\d* kept, 0 broken", done.stdout), done.stdout


def test_files_are_opened_in_few_places():
    opening = {name for name in NAMES if not name.startswith("data/") and calls(name) & OPENERS}
    assert opening - MAY_OPEN.keys() == set(), "these open files and may not"
    assert MAY_OPEN.keys() - opening == set(), "these no longer open files: take them off the list"


def test_the_search_for_opened_files_finds_them():
    assert "open" in calls("data/archives.py")
    assert "write_text" in calls("runfolder.py")


def test_one_place_loads_models():
    loading = {name for name in NAMES if "from_pretrained" in calls(name)}
    assert loading <= {"models/load.py", "predictor.py"}


@pytest.mark.parametrize("package", [name for name in NAMES if name.endswith("/__init__.py")])
def test_sub_packages_are_empty(package):
    assert (SOURCE / package).read_text(encoding="utf-8") == ""


@pytest.mark.parametrize("name", NAMES)
def test_a_module_fits_in_the_head(name):
    text = (SOURCE / name).read_text(encoding="utf-8")
    assert text.count("\n") <= LINES
    assert not text or ast.get_docstring(tree(name)), "the first line says what the module is for"


@pytest.mark.parametrize("name", NAMES)
def test_what_must_not_be_there(name):
    assert Path(name).stem not in {"utils", "util", "common", "helpers", "misc"}
    module = tree(name)
    imported = {
        alias.name.partition(".")[0]
        for node in ast.walk(module)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    imported |= {(node.module or "").partition(".")[0] for node in ast.walk(module) if isinstance(node, ast.ImportFrom)}
    assert not imported & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "requests", "urllib"}
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in {("torch", "load"), ("torch", "save")}
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
            assert not (isinstance(node.value, ast.Constant) and node.value.value is not False)


def test_code_of_a_model_is_not_trusted_by_default():
    from finesmith.models.settings import ModelSettings

    assert ModelSettings().trust_remote_code is False


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["list"], ["tune", "--help"]])
def test_the_command_line_answers_at_once(arguments):
    assert min(_seconds([sys.executable, "-m", "finesmith", *arguments]) for _ in range(5)) < SECONDS


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return time.perf_counter() - began


HEAVY = ("torch", "transformers", "peft", "accelerate", "datasets", "sklearn", "scipy")
LIGHT = {
    "import finesmith": HEAVY,
    "import finesmith.cli._parser": HEAVY,
    "from finesmith.__main__ import main; main(['list'])": HEAVY,
    "import finesmith; finesmith.Recipe": HEAVY,
    "from finesmith.recipe import recipe_class; recipe_class()": HEAVY,
    "from finesmith import run, recipe; run.prepare(recipe.from_source(DATA))": ("torch", "transformers", "peft"),
}


@pytest.mark.parametrize("code", LIGHT)
def test_what_is_light_imports_nothing_heavy(code, tickets):
    found = f"[name for name in {LIGHT[code]!r} if name in sys.modules]"
    check = f"import sys; DATA = {str(tickets)!r}; {code}; print('heavy:', {found})"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_nothing_is_made_float64_where_it_stands():
    """Apple's devices have no float64: what needs it goes to the CPU first."""
    found = [
        f"{path.name}:{number}"
        for path in MODULES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if ".double()" in line.replace(".cpu().double()", "")
    ]
    assert not found


def test_importing_prints_and_writes_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "import finesmith.run"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr, os.listdir(tmp_path)) == ("", "", [])


def test_the_public_names_exist():
    assert (
        dir(finesmith)
        == ["Recipe", "Run", "__version__", "advise", "check", "export", "load", "tune"]
        == sorted(finesmith.__all__)
    )
    assert all(getattr(finesmith, name) is not None for name in finesmith.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Trainer'"):
        finesmith.Trainer  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_every_module_can_be_imported(name):
    dotted = "finesmith." + name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    if not dotted.endswith("__main__"):
        importlib.import_module(dotted)


def test_every_package_is_shipped():
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    source = REPOSITORY / "src"
    found = {".".join(path.parent.relative_to(source).parts) for path in source.rglob("__init__.py")}
    assert set(settings["packages"]) == found | {"finesmith.examples"}
