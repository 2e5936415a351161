"""Loss curves over each other, as text: it can be read in a terminal and in a diff."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MARKS = "ox+#@%&=~"
SAME = "*"


def curves(series: Mapping[str, Sequence[float]], *, width: int = 72, height: int = 14) -> str:
    """One mark for each curve; where several fall on one place it is `*`. Steps go right, nats go up."""
    longest = max(len(values) for values in series.values())
    values = [value for line in series.values() for value in line]
    low, high = min(values), max(values)
    columns = min(width, longest)
    grid = [[" "] * columns for _ in range(height)]
    for mark, line in zip(MARKS, series.values(), strict=False):
        for column in range(columns):
            step = round(column * (longest - 1) / max(1, columns - 1))
            if step < len(line):
                place = round((high - line[step]) / max(high - low, 1e-12) * (height - 1))
                grid[place][column] = mark if grid[place][column] == " " else SAME
    rows = ["".join(row).rstrip() for row in grid]
    label = [f"{high:9.4f}", *[" " * 9] * (height - 2), f"{low:9.4f}"]
    body = [f"{left} |{row}" for left, row in zip(label, rows, strict=True)]
    legend = "  ".join(f"{mark} {name}" for mark, name in zip(MARKS, series, strict=False))
    foot = f"{'nats':>9} +{'-' * columns}\n{'':>9}  step 1 to {longest};  {legend}  {SAME} several"
    return "\n".join([*body, foot])
