"""A hub id through the real hub code, offline: the model lies in a hub cache that the test lays out itself."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from finesmith import recipe, run
from finesmith.models import fetch
from finesmith.runfolder import RunFolder
from tests.conftest import ticket_rows, write_csv

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def hub_home(folder: Path, model: str) -> Path:
    """A hub cache with one model, `acme/tiny`, as huggingface_hub lays it out."""
    repository = folder / "hub" / "models--acme--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    shutil.copytree(model, repository / "snapshots" / COMMIT)
    return folder


def finesmith(*words: str, home: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "finesmith", *words], capture_output=True, text=True, cwd=cwd, env=environment
    )


def test_a_hub_model_is_tuned_saved_and_reloaded(tmp_path, models):
    home = hub_home(tmp_path / "home", models("llama"))
    write_csv(tmp_path / "tickets.csv", ticket_rows(60))
    done = finesmith(
        "tune", "tickets.csv", "train.max_steps=2", "--model", "acme/tiny", "--json", home=home, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    run = tmp_path / json.loads(done.stdout)["run"]
    assert json.loads((run / "model" / "adapter_config.json").read_text())["base_model_name_or_path"] == "acme/tiny"
    assert 'base_model: "acme/tiny"' in (run / "README.md").read_text()


def test_a_hub_model_that_is_not_there_is_one_clear_sentence(tmp_path, models):
    home = hub_home(tmp_path / "home", models("llama"))
    write_csv(tmp_path / "tickets.csv", ticket_rows(60))
    done = finesmith("tune", "tickets.csv", "--model", "acme/tinny", home=home, cwd=tmp_path)
    assert done.returncode == 2
    assert "'acme/tinny'" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_the_time_before_the_first_step_is_without_the_download(tmp_path, models, monkeypatch):
    """Another training of the run finds the weights in the cache: what it takes is planned from this time."""
    fetched = []
    monkeypatch.setattr(fetch, "weights", lambda settings: fetched.append(settings.name))
    monkeypatch.setattr(run, "time", SimpleNamespace(time=lambda: time.time() + 1000 * len(fetched)))
    rows = write_csv(tmp_path / "tickets.csv", ticket_rows(60))
    asked = {"data": {"path": str(rows)}, "model": {"name": models("llama")}, "train": {"max_steps": 1}}
    made = run.tune(recipe.make({**asked, "out": str(tmp_path / "run")}))
    seconds = RunFolder(made.path).read_json("manifest.json")["seconds"]
    assert fetched == [models("llama")] and seconds["preparing"] < 500 < 1000 <= seconds["all"]
