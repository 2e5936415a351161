"""The tutorial's commands, run in order as they stand there; only the trainings are cut to two steps."""

import re
import shlex
import shutil
from pathlib import Path

from finesmith.__main__ import main

ROOT = Path(__file__).parents[2]
TUTORIAL = (ROOT / "docs" / "tutorial" / "first-run.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", TUTORIAL, flags=re.S)
    return found


def test_every_command_of_the_tutorial_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "new.csv").write_text(block("csv"))
    (tmp_path / "recipe.yaml").write_text(re.sub(r"epochs: \S+}", "max_steps: 2}", block("yaml")))
    lines = [line for part in re.findall(r"```sh\n(.*?)```", TUTORIAL, flags=re.S) for line in part.splitlines()]
    commands = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("finesmith")]
    assert [words[0] for words in commands] == ["show-tokens", "show-tokens", "tune", "tune", "show", "predict"]
    for words in commands:
        short = ["train.max_steps=2"] if words[0] == "tune" and "recipe.yaml" not in words else []
        assert main([*words, *short]) == 0, f"{words}: {capsys.readouterr().err}"
    assert (tmp_path / "runs" / "tickets" / "README.md").exists()
    assert len((tmp_path / "answers.csv").read_text().splitlines()) == len(block("csv").splitlines())


def test_links_lead_somewhere():
    for page in (ROOT / "docs").rglob("*.md"):
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name}: {link}"
