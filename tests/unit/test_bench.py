"""The benchmark's pure parts: ratios, fitted exponents, work per token, the tables of cases and systems, the report."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from bench import arithmetic, cases, cost, environment, measure, memory, plot, processes, rows, show, systems
from bench.jobs import Job

REPOSITORY = Path(__file__).parents[2]


def test_a_ratio_is_their_seconds_by_ours_pair_by_pair():
    ratios = arithmetic.ratios([1.0, 2.0, 4.0], [3.0, 4.0, 4.0])
    assert ratios == [3.0, 2.0, 1.0]
    found = arithmetic.spread(ratios)
    assert (found.low, found.middle, found.high, found.n) == (1.0, 2.0, 3.0, 3)
    assert f"{found:.1f}" == "1.0 - **2.0** - 3.0"


def test_unpaired_times_make_no_ratio():
    with pytest.raises(ValueError, match="zip"):
        arithmetic.ratios([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="no pair"):
        arithmetic.spread([])


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 1.37])
def test_an_exact_power_is_found(exponent):
    sizes = [128.0, 256.0, 512.0, 2048.0]
    fit = arithmetic.fit_exponent(sizes, [0.25 * size**exponent for size in sizes])
    assert fit.exponent == pytest.approx(exponent, abs=1e-12)
    assert fit.factor == pytest.approx(0.25)
    assert fit.error == pytest.approx(0.0, abs=1e-9)


def test_the_exponents_error_is_that_of_a_regression():
    sizes, costs = [1.0, 2.0, 4.0, 8.0, 16.0], [1.1, 1.9, 4.4, 7.6, 16.5]
    fit = arithmetic.fit_exponent(sizes, costs)
    from scipy.stats import linregress

    known = linregress([math.log(size) for size in sizes], [math.log(cost) for cost in costs])
    assert fit.exponent == pytest.approx(known.slope)
    assert fit.error == pytest.approx(known.stderr)


@pytest.mark.parametrize(("x", "y"), [([2.0], [1.0]), ([2.0, 2.0], [1.0, 2.0]), ([1.0, 2.0], [0.0, 1.0])])
def test_no_exponent_without_two_sizes(x, y):
    with pytest.raises(ValueError, match="two different sizes"):
        arithmetic.fit_exponent(x, y)


def test_work_per_token_of_a_known_model():
    """135 M, all tokens learnt: 6 x (106.2 M + 28.3 M) and the attention, from the published geometry."""
    full = arithmetic.work_per_token(cases.MODELS["135m-49k"], "full", rank=16, mean_length=512, supervised=1.0)
    attention = 3 * 2 * 576 * 512 * 30
    assert full == pytest.approx(6 * (106_168_320 + 28_311_552) + attention)
    lora = arithmetic.work_per_token(cases.MODELS["135m-49k"], "lora", rank=16, mean_length=512, supervised=0.4)
    assert 0.5 < lora / full < 0.72
    with pytest.raises(ValueError, match="head"):
        arithmetic.work_per_token(cases.MODELS["135m-49k"], "head", rank=16, mean_length=512, supervised=1.0)


def test_the_distance_of_two_curves_is_the_greatest():
    assert arithmetic.apart([1.0, 2.0], [1.5, 1.9]) == pytest.approx(0.5)


def test_every_case_names_a_model_and_systems_that_exist():
    assert len(cases.BY_NAME) == len(cases.ALL)
    for case in cases.ALL:
        assert case.model in cases.MODELS
        assert case.rows in rows.SETS
        assert set(case.peers) <= systems.BY_NAME.keys()
        assert case.targets.keys() <= set(case.peers), "a target needs the peer that it is about"
    assert all(name in cases.BY_NAME for names in cases.PROFILES.values() for name in names)
    assert set(systems.SWEEP) <= systems.BY_NAME.keys()


def test_the_cases_are_those_of_the_targets():
    """4x and 2x (7x and 3.5x at 152k) for LoRA, 3x for the encoder, 2x full, 10x and 2x with a cached trunk."""
    of = {case.name: dict(case.targets) for case in cases.ALL}
    assert of["mixed-30m-32k-lora"] == {"trl-default": 4.0, "trl-best": 2.0}
    assert of["mixed-135m-152k-lora"] == {"trl-default": 7.0, "trl-best": 3.5}
    assert of["mixed-135m-49k-full"] == {"trl-default": 2.0, "trl-autocast": 2.0}
    assert of["tickets-minilm-full"]["trainer"] == 3.0
    assert of["cached-minilm-head"] == {"trainer": 10.0}
    assert of["cached-135m-49k-last4"] == {"trainer-autocast": 2.0}


def test_every_system_has_a_worker():
    for system in systems.ALL:
        assert (REPOSITORY / "bench" / "workers" / f"{system.worker}.py").exists()


def test_useful_tokens_are_those_of_the_rows():
    job = Job(Path(), cases.BY_NAME["dry-lora"], 0, "", [[0, 1], [2, 0]], [10, 20, 30], [5.0, 10.0, 15.0])
    assert job.tokens(0, 1) == 30
    assert job.tokens(0, 2) == 70
    shape = job.shape()
    assert shape["padding"] == pytest.approx(1 - 70 / 100)
    assert shape["supervised"] == pytest.approx(0.5)


@pytest.mark.parametrize("kind", rows.SETS)
def test_without_real_sets_there_are_rows_that_ship(kind):
    found, source = rows.load(kind, None)
    assert len(found) >= 10
    assert "ship" in source
    assert rows.load(kind, None)[0] == found, "the order is fixed"


def test_a_missing_set_is_named(tmp_path):
    with pytest.raises(SystemExit, match="banking77"):
        rows.load("tickets", tmp_path)


class Worker:
    """Trains nothing; `DYING` ends in its second round."""

    DYING = "trl-best"

    def __init__(self, system, interpreter, job, threads):
        self.system, self.runs, self.ended = system, 0, False

    def ready(self):
        return 1

    def run(self, steps):
        self.runs += 1
        if self.system.name == self.DYING and self.runs == 3:
            raise processes.WorkerFailed(f"{self.system.name}: gone")
        return processes.Block(1.0, 1.0, [1.0] * steps, [1.0] * steps, 1, 1, {})

    def end(self):
        self.ended = True


def side_by_side(monkeypatch, names, dying=Worker.DYING):
    monkeypatch.setattr(processes, "Worker", type("Fake", (Worker,), {"DYING": dying}))
    monkeypatch.setattr(processes, "calibrate", lambda device, threads: 1.0)
    job = Job(Path(), cases.BY_NAME["dry-lora"], 0, "", [], [], [])
    asked = [systems.BY_NAME[name] for name in names]
    places = {system.environment: Path() for system in asked}
    return processes.paired(job, asked, places, warm_up=1, rounds=3, steps=1, minutes=1.0, threads=1, device="cpu",
                            tell=lambda text: None)  # fmt: skip


def test_a_peer_that_dies_in_a_timed_round_is_left_out_and_the_others_go_on(monkeypatch):
    found = side_by_side(monkeypatch, ["finesmith", "trl-default", "trl-best"])
    assert found.systems == ["finesmith", "trl-default"] and found.failed == {"trl-best": "trl-best: gone"}
    assert len(found.rounds) == 3 and all("trl-default" in blocks for blocks in found.rounds)
    with pytest.raises(processes.WorkerFailed):
        side_by_side(monkeypatch, ["finesmith", "trl-best"], dying="finesmith")


def test_a_worker_that_is_gone_says_what_its_log_says(tmp_path):
    worker = processes.Worker.__new__(processes.Worker)
    worker.system, worker._log = systems.BY_NAME["trl-best"], tmp_path / "log"
    worker._log.write_text("killed")
    worker._process = subprocess.Popen([sys.executable, "-c", ""], stdin=-1, stdout=-1, text=True)
    worker._process.wait()
    with pytest.raises(processes.WorkerFailed, match="killed"):
        worker.run(1)
    worker.end()


def _paired(**losses):
    block = lambda values: processes.Block(1.0, 1.0, values, [1.0], 1, 1, {})  # noqa: E731
    first = {name: block(values) for name, values in losses.items()}
    return processes.Paired(1, 1, list(losses), first=first)


def test_curves_are_compared_with_ours_of_the_same_seed():
    runs = [_paired(finesmith=[1.0], peer=[1.5]), _paired(finesmith=[2.0]), _paired(finesmith=[3.0], peer=[3.25])]
    result = {"name": "c", "systems": {"finesmith": {}, "peer": {}}}
    measure._losses(result, runs)
    assert result["systems"]["peer"]["apart"] == [0.5, 0.25]


def test_a_rival_that_cannot_run_a_size_has_no_curve_of_costs(monkeypatch):
    def paired(job, asked, interpreters, **more):
        names = [system.name for system in asked if job == 1 or system.name == "finesmith"]
        blocks = {name: processes.Block(1.0 + job, 1.0, [], [], 1, 1, {}) for name in names}
        return processes.Paired(1, 1, names, rounds=[blocks])

    monkeypatch.setattr(cost, "one_job", lambda case, *_: case)
    monkeypatch.setattr(cost, "paired", paired)
    plan, told = measure.Plan(1, 1, 1, 1, 1, 0, 1.0, 1, "cpu", None, Path()), []
    found = cost._steps("length", "c", {128: 1, 256: 2}, {"own": Path(), "peers": Path()}, plan, told.append)
    assert list(found["series"]) == ["finesmith, seconds a step"] and "trl-best" in told[0]


@pytest.mark.parametrize(("measured", "code"), [(100, 0), (86, 1), (118, 1)])
def test_an_estimate_that_is_too_far_off_ends_the_grid_with_1(monkeypatch, capsys, measured, code):
    monkeypatch.setattr(memory, "prepare", lambda folder: None)
    monkeypatch.setattr(memory, "compare", lambda name, folder: (100, measured))
    monkeypatch.setattr(sys, "argv", ["memory.py"])
    assert memory.main() == code
    assert f"{0 if code else len(memory.GRID)} of {len(memory.GRID)} within 15 %" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["memory.py", "no such name"])
    assert memory.main() == 1, "nothing was measured"


def test_curves_that_coincide_are_one_mark():
    drawn = plot.curves({"a": [3.0, 2.0, 1.0], "b": [3.0, 2.0, 1.0]}, height=3)
    assert drawn.count("*") == 4, "three steps and the legend"
    apart = plot.curves({"a": [3.0, 2.0, 1.0], "b": [3.0, 2.0, 2.9]}, height=3)
    assert apart.count("*") == 3
    assert "3.0000" in apart
    assert "1.0000" in apart


def _result():
    system = {"note": "n", "facts": {"moving": "fp32"}, "seconds": [1.0, 2.0], "tokens_per_second": [100.0, 50.0],
              "losses": [[2.0, 1.0]], "norms": [[0.5, 0.25]], "peak": 1 << 30, "memory_ratio": 1.0}  # fmt: skip
    peer = {
        **system,
        "ratios": [4.0, 6.0],
        "cpu_ratios": [3.0, 3.5],
        "steady": [True, False],
        "apart": [0.001],
        "memory_ratio": 2.5,
    }
    case = {"name": "c", "task": "t", "method": "lora", "model": "m", "parameters": 1e6, "batch": 2, "epoch": 64,
            "source": "s", "warm_up": 1, "rounds": 2, "steps": 1, "targets": {"peer": 4.0}, "failed": {"gone": "why"},
            "shape": {"mean_length": 9.0, "longest": 12.0, "supervised": 0.5, "padding": 0.1},
            "systems": {"finesmith": system, "peer": peer}}  # fmt: skip
    fit = {"factor": 1.0, "exponent": 1.04, "error": 0.02}
    cost = {"axis": "length", "case": "c", "sizes": [1, 2], "series": {"ours": [1.0, 2.0]}, "fits": {"ours": fit}}
    machine = {"processor": "p", "cores": 2, "bf16": [], "accelerator": None, "load": 0.1, "versions": {"torch": "2"}}
    return {"date": "d", "profile": "quick", "order": "grouped", "threads": 2, "machine": machine,
            "peak": {"bfloat16": 1e11}, "peers": "trl 1", "cases": [case], "costs": [cost]}  # fmt: skip


def test_the_report_shows_ratios_targets_memory_and_who_could_not_run():
    text = show.markdown(_result())
    assert "4.00 - **5.00** - 6.00" in text
    assert "4.00 (1 of 2)" in text
    assert "| 4 |" in text
    assert "| 2.50 |" in text
    assert "gone | could not run: why" in text
    assert "length^1.04 (standard error 0.02)" in text
    assert "0.25 to 0.5" in text


def test_the_report_says_loudly_that_the_builds_of_torch_differ():
    assert "Not comparable" not in show.markdown(_result())
    result = _result()
    for name, build in (("finesmith", "2.13.0+cpu"), ("peer", "2.13.0+cpu")):
        result["cases"][0]["systems"][name]["facts"] = {"torch": build}
    assert "Not comparable" not in show.markdown(result)
    result["cases"][0]["systems"]["peer"]["facts"] = {"torch": "2.13.0+cu130"}
    text = show.markdown(result)
    assert "**Not comparable: the builds of torch differ (finesmith 2.13.0+cpu, peer 2.13.0+cu130)" in text


def test_a_worker_says_which_build_of_torch_it_runs_with():
    import torch

    code = (
        "from bench.workers.gate import Gate; gate = Gate('cpu'); gate.ready(lambda: {'moving': 'fp32'}); "
        "gate.step(1.0, 0.5)"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=REPOSITORY, input='{"run": 1}\n', capture_output=True, text=True, timeout=200)
    ready, block = (json.loads(line) for line in done.stdout.splitlines())
    assert ready["ready"] and block["losses"] == [1.0]
    assert block["facts"] == {"torch": torch.__version__, "moving": "fp32"}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Environments in which nothing is installed: what pip is asked, and which build answers."""

    def go(own, theirs, *, lacks=""):
        asked = []

        def pip(words, **_):
            asked.append([word for word in words[1:] if not word.startswith(("--quiet", "--disable"))])
            if words[-1] == lacks and "--extra-index-url" not in words:
                raise subprocess.CalledProcessError(1, words)

        (tmp_path / "peers").mkdir(exist_ok=True)
        monkeypatch.setattr(environment, "version", lambda _: own)
        monkeypatch.setattr(environment, "own_build", lambda: own)
        monkeypatch.setattr(environment.subprocess, "run", pip)
        monkeypatch.setattr(environment, "output", lambda *_: theirs)
        monkeypatch.setattr(environment, "_freeze", lambda _: "")
        environment.python(tmp_path)
        return [words for words in asked if "pip" in words]

    return go


def test_peers_get_the_very_build_of_torch(installed):
    first, then = installed("2.13.0+cpu", "2.13.0+cpu")
    assert first[-1] == "torch==2.13.0+cpu" and "--extra-index-url" not in first and "torch==2.13.0+cpu" in then


def test_a_build_that_pip_does_not_find_comes_from_the_index_of_torch(installed):
    _, second, _ = installed("2.13.0+cpu", "2.13.0+cpu", lacks="torch==2.13.0+cpu")
    assert second[-3:] == ["--extra-index-url", "https://download.pytorch.org/whl/cpu", "torch==2.13.0+cpu"]


def test_peers_with_another_build_of_torch_are_refused(installed):
    for _ in range(2):  # after the installation, and when the environment is there already
        with pytest.raises(SystemExit, match=r"has torch 2.13.0\+cu130, Finesmith runs with 2.13.0\+cpu") as caught:
            installed("2.13.0+cpu", "2.13.0+cu130")
        assert "\n" not in str(caught.value)


def test_the_script_starts_without_a_peer():
    words = [sys.executable, str(REPOSITORY / "bench" / "train.py"), "--help"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "mixed-30m-32k-lora" in done.stdout
