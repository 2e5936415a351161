"""The README's commands and Python lines, run as they stand there (only the hub model is replaced by a tiny one)."""

import io
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from finesmith.__main__ import main
from tests.conftest import clause_rows, ticket_rows, write_csv, write_jsonl

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, models):
    """A working folder with the files that the README speaks of."""
    place = tmp_path_factory.mktemp("readme")
    write_csv(place / "tickets.csv", ticket_rows())
    write_jsonl(place / "clauses.jsonl", clause_rows())
    write_jsonl(place / "new.jsonl", [{"prompt": "clause about my card"}])
    (place / "recipe.yaml").write_text(f"data: tickets.csv\nmodel: {models('llama')}\nmethod: lora\n")
    return place


def test_every_finesmith_command_runs(folder, models, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    lines = [line.partition("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    commands = [line for line in lines if line.startswith("finesmith")]
    assert len(commands) >= 10
    for line in commands:
        words = shlex.split(line.replace("Qwen/Qwen3-0.6B", models("qwen3", "chatml")))[1:]
        if words[0] == "chat":
            monkeypatch.setattr("sys.stdin", io.StringIO(""))
        if ">" in words:
            words = words[: words.index(">")]
        code = main(words)
        expected = 2 if words[0] == "resume" else 0  # the README's run is finished by then: a clear error
        assert code == expected, f"{line}: {capsys.readouterr().err}"
    assert (folder / "answers.jsonl").read_text().count("\n") == 1


def test_the_python_lines_run(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    (code,) = blocks("python")
    space: dict[str, object] = {}
    exec(code, space)
    assert space["run"].path.name.startswith("tickets")


def test_make_targets_exist():
    targets = re.findall(r"^make (\w+)", "\n".join(blocks("sh")), flags=re.M)
    makefile = (ROOT / "Makefile").read_text()
    assert targets == ["demo", "test"]
    assert all(re.search(rf"^{target}:", makefile, flags=re.M) for target in targets)


@pytest.mark.skipif(not shutil.which("make"), reason="no make here")
@pytest.mark.parametrize("index", ["", "https://download.pytorch.org/whl/cpu"])
def test_another_index_for_torch_is_asked_where_it_is_named(tmp_path, index):
    words = ["make", "--dry-run", f"VENV={tmp_path}/venv", "demo", *([f"TORCH_INDEX={index}"] if index else [])]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    (torch, package) = [line for line in done.stdout.splitlines() if " -m pip install " in line]
    extra = f" --extra-index-url {index}" if index else ""
    assert torch.endswith(f"--constraint constraints.txt{extra} torch") and "--extra-index-url" not in package
    assert ("CUDA" in done.stdout) == (not index)
    assert f"make demo TORCH_INDEX={index}" in README


def test_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("http") or (ROOT / link).exists(), link


def test_ci_runs_the_readme_commands():
    script = (ROOT / ".ci" / "run").read_text()
    assert "make test" in script and "make demo" in script
