"""How pages look: two sets of colours, narrow and wide screens, paper. Every text has a contrast of 4.5 at least.

On paper stands what is open on the screen; what is of class `paper` always does.
"""

from __future__ import annotations

LIGHT = {
    "back": "#ffffff",
    "ink": "#1c1e21",
    "dim": "#57606a",
    "line": "#d0d7de",
    "soft": "#f4f6f8",
    "blocking": "#b3261e",
    "warning": "#855600",
    "note": "#2f6091",
    "yes": "#1a6b3a",
    "series-0": "#2f6fb5",
    "series-1": "#b65c00",
    "series-2": "#2e7d4f",
    "series-3": "#7d4fc0",
    "series-4": "#b03a55",
    "series-5": "#68717c",
}
DARK = {
    "back": "#16181b",
    "ink": "#e6e8ea",
    "dim": "#a3adb8",
    "line": "#3a4149",
    "soft": "#22262b",
    "blocking": "#ff8a80",
    "warning": "#f0b95c",
    "note": "#8fbbe8",
    "yes": "#7fd6a0",
    "series-0": "#6aa7ea",
    "series-1": "#f0a04b",
    "series-2": "#6cc48c",
    "series-3": "#b893f0",
    "series-4": "#f08aa0",
    "series-5": "#a3adb8",
}


def _variables(colours: dict[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())


RULES = """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.2rem 4rem; background: var(--back); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .5rem; } h3 { font-size: 1rem; margin: 1.2rem 0 .2rem; }
.dim, figcaption { color: var(--dim); } .small { font-size: .875rem; }
.origins { font: .8rem/1.6 ui-monospace, monospace; overflow-wrap: anywhere; }
section { border-top: 1px solid var(--line); padding: .9rem 0; } section h3 { margin: 0 0 .2rem; }
.tag { display: inline-block; font-size: .8rem; font-weight: 600; border: 1px solid currentColor; border-radius: .3rem;
  padding: 0 .4rem; margin-right: .5rem; }
.blocking, .no { color: var(--blocking); } .warning, .open { color: var(--warning); } .note { color: var(--note); }
.yes { color: var(--yes); } .unknown { color: var(--dim); }
p { margin: .3rem 0; max-width: 46rem; overflow-wrap: anywhere; }
table { margin: .4rem 0 1rem; border-collapse: collapse; width: 100%; font-size: .875rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); }
td { min-width: 6rem; overflow-wrap: break-word; } th { color: var(--dim); font-weight: 600; }
tbody th { min-width: 8rem; } .facts td { min-width: 5.8rem; overflow-wrap: anywhere; }
 .facts tbody th { min-width: 6rem; overflow-wrap: anywhere; }
caption { text-align: left; color: var(--dim); padding-bottom: .2rem; }
li { overflow-wrap: anywhere; max-width: 46rem; } .wide { overflow-x: auto; }
figure { margin: .8rem 0; max-width: 44rem; } figcaption { font-weight: 600; margin-bottom: .3rem; }
svg { display: block; width: 100%; height: auto; } .slim { display: none; }
.what { color: var(--dim); margin: 1.2rem 0 0; }
.verdict { max-width: none; font-size: 1.35rem; line-height: 1.4; font-weight: 600; margin: .3rem 0 .2rem; }
.answers { display: grid; grid-template-columns: 1fr 1fr; gap: .9rem; margin: 1.2rem 0 .6rem; }
.answers > div { background: var(--soft); border-radius: .5rem; padding: .8rem 1rem; }
.answers h2 { font-size: 1rem; margin: 0 0 .3rem; }
.alarm { border: 2px solid var(--blocking); border-radius: .5rem; padding: .6rem 1rem; margin: 1rem 0;
  max-width: none; }
nav { font-size: .875rem; margin: .8rem 0 0; } nav a { margin-right: 1rem; white-space: nowrap; }
a { color: var(--note); } code { font-size: .9em; overflow-wrap: anywhere; }
.claims { list-style: none; padding: 0; } .claims > li { padding: .7rem 0; border-top: 1px solid var(--line);
  max-width: none; } .claims h3 { display: inline; margin: 0; }
pre { overflow-x: auto; background: var(--soft); padding: .8rem; border-radius: .4rem; font-size: .8rem; }
details { margin: .4rem 0; } summary { cursor: pointer; color: var(--dim); padding: .2rem 0; }
@media (max-width: 40rem) { body { padding: 1.2rem 1rem 3rem; } .answers { grid-template-columns: 1fr; }
  .verdict { font-size: 1.2rem; } .broad { display: none; } .slim { display: block; } nav a { line-height: 1.9; } }
@media print { body { max-width: none; padding: 0; font-size: 10.5pt; } nav { display: none; }
  .answers { grid-template-columns: 1fr 1fr; } .answers > div { border: 1px solid var(--line); }
  .broad { display: block; } .slim { display: none; }
  figure, .answers > div, .claims > li, tr { break-inside: avoid; } h2, h3, figcaption, caption { break-after: avoid; }
  .wide { overflow: visible; } table { font-size: 8pt; } td, th { min-width: 0 !important; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  details:not([open], .paper) { display: none; }
  .paper::details-content { content-visibility: visible; display: block; block-size: auto; } }
@page { margin: 16mm; }
"""
PAPER = f"@media print {{ :root {{ color-scheme: light; {_variables(LIGHT)} }} }}"
STYLE = (
    f":root {{ color-scheme: light dark; {_variables(LIGHT)} }}\n"
    f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}\n{PAPER}{RULES}"
)
