"""The results as Markdown: every number of the JSON that a reader needs, ratios as min - median - max."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bench import arithmetic, plot

PARTS = ("frozen", "moving", "activations", "branch", "optimizer", "autocast", "checkpointing")
NUMERIC = ("moving", "activations", "branch", "optimizer")
"""Parts that change the numbers; a frozen weight that autocast narrows before each use is the same arithmetic."""
MEBIBYTE = 1 << 20


def markdown(result: Mapping[str, Any]) -> str:
    """The whole report."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {value}" for name, value in machine["versions"].items())
    lines = [
        f"# Training speed and memory, side by side ({result['date']}, profile {result['profile']})",
        "",
        f"{machine['processor']}, {machine['cores']} cores ({result['threads']} threads), "
        f"{machine['accelerator'] or 'no accelerator'}, {', '.join(machine['bf16']) or 'no bfloat16 instructions'}; "
        f"matrix peak {_peak(result['peak'])}; load at the start {machine['load']:.2f}. {versions}; peers: "
        f"{result['peers']}.",
        "",
        "Each library runs in its own process and they take turns on the same steps, in an order drawn anew each "
        "round. Same first weights, token ids, loss masks, rows of each step, AdamW, clipping. Ratios are "
        "their seconds / our seconds of one round, and their peak / our peak: above 1 Finesmith is better. "
        f"Warm-up is left out. Useful tokens are those that are not padding. Rows in a step: {result['order']}.",
        "",
    ]
    for case in result["cases"]:
        lines += [*_case(case), ""]
    for cost in result.get("costs", ()):
        lines += [*_cost(cost), ""]
    return "\n".join(lines).rstrip() + "\n"


def _peak(peak: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value / 1e9:,.0f} GFLOP/s" for name, value in peak.items())


def _case(case: Mapping[str, Any]) -> Iterator[str]:
    shape = case["shape"]
    yield f"## {case['name']}"
    yield ""
    yield (
        f"{case['task']}, method {case['method']}, model {case['model']} ({case['parameters'] / 1e6:.0f} M weights, "
        f"random), {case['batch']} rows a step of {shape['mean_length']:.0f} tokens in the mean "
        f"({shape['longest']:.0f} at most), {shape['supervised']:.0%} learnt, {shape['padding']:.0%} padding where a "
        f"library pads; rows: {case['source']}. "
        f"{case['warm_up']} steps of warm-up, then {case['rounds']} rounds of {case['steps']} steps."
    )
    yield ""
    yield from _builds(case)
    yield (
        "| system | useful tokens/s | speed ratio | steady rounds | processor-time ratio | target | peak MiB | "
        "memory ratio | MFU | max loss difference, nats (seeds) | gradient norms |"
    )
    yield "|---" * 11 + "|"
    for name, system in case["systems"].items():
        yield _row(name, system, case)
    for name, reason in case["failed"].items():
        yield f"| {name} | could not run: {reason.replace('|', '/')[:160]} ||||||||||"
    yield ""
    yield from _precision(case)
    yield ""
    yield "```text"
    yield plot.curves({name: system["losses"][0] for name, system in case["systems"].items()})
    yield "```"


def _builds(case: Mapping[str, Any]) -> Iterator[str]:
    """A warning where the systems ran with different builds of torch."""
    builds = {name: found for name, each in case["systems"].items() if (found := each["facts"].get("torch"))}
    if len(set(builds.values())) > 1:
        told = ", ".join(f"{name} {build}" for name, build in builds.items())
        yield f"**Not comparable: the builds of torch differ ({told}), and with them kernels and peak memory.**"
        yield ""


def _row(name: str, system: Mapping[str, Any], case: Mapping[str, Any]) -> str:
    speed, norms = system["tokens_per_second"], [norm for line in system["norms"] for norm in line]
    ratios = (
        [f"{arithmetic.spread(system['ratios']):.2f}", _steady(system, case),
         f"{arithmetic.spread(system['cpu_ratios']).middle:.2f}"]
        if "ratios" in system
        else ["1", "", ""]
    )  # fmt: skip
    cells = [
        f"{arithmetic.spread(speed):.0f}",
        *ratios,
        f"{case['targets'][name]:g}" if name in case["targets"] else "",
        f"{system['peak'] / MEBIBYTE:.0f}" if "peak" in system else "",
        f"{system['memory_ratio']:.2f}" if "memory_ratio" in system else "",
        f"{system['mfu']:.1%}" if "mfu" in system else "",
        f"{max(system['apart']):.1e} ({len(system['apart'])})" if "apart" in system else "",
        f"{min(norms):.3g} to {max(norms):.3g}",
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


def _steady(system: Mapping[str, Any], case: Mapping[str, Any]) -> str:
    kept = [ratio for ratio, good in zip(system["ratios"], system["steady"], strict=True) if good]
    return f"{arithmetic.spread(kept).middle:.2f} ({len(kept)} of {case['rounds']})" if kept else "none"


def _precision(case: Mapping[str, Any]) -> Iterator[str]:
    yield "Precision of every part, as found in the running models:"
    yield ""
    yield "| system | settings | as ours | " + " | ".join(PARTS) + " |"
    yield "|---" * (len(PARTS) + 3) + "|"
    ours = case["systems"]["finesmith"]["facts"]
    for name, system in case["systems"].items():
        found = system["facts"]
        same = all(found.get(part, "") == ours.get(part, "") for part in NUMERIC)
        cells = [name, system["note"], "yes" if same else "no", *(found.get(part, "") for part in PARTS)]
        yield "| " + " | ".join(cells) + " |"


def _cost(cost: Mapping[str, Any]) -> Iterator[str]:
    yield f"## Cost against {cost['axis']} ({cost['case']})"
    yield ""
    yield f"| {cost['axis']} | " + " | ".join(cost["series"]) + " |"
    yield "|---" * (len(cost["series"]) + 1) + "|"
    for place, size in enumerate(cost["sizes"]):
        yield f"| {size:g} | " + " | ".join(f"{values[place]:.4g}" for values in cost["series"].values()) + " |"
    yield ""
    for name, fit in cost["fits"].items():
        yield f"- {name} ~ {cost['axis']}^{fit['exponent']:.2f} (standard error {fit['error']:.2f})"
