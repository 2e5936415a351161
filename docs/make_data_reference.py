"""Writes docs/reference/data.md: what files, shapes, columns and roles are recognised, from the tables that read them.

python docs/make_data_reference.py
"""

from collections.abc import Iterator
from pathlib import Path

from finesmith.data.messages import ROLES
from finesmith.data.names import NAMES
from finesmith.data.shapes import COMMON, SHAPES
from finesmith.data.sources import PARTS, suffixes

HUB = """\
The splits of a data set on a hub are known by the same words. Where a split is called by the bare word (`train`),
others with that word are not read; else those with `sft` in their name are, without those that lack it (`train_gen`
and `train_prefs` beside `train_sft`); else all of them together (`train_r1`, `train_r2`). What is not read is named.
"""
TARGET = Path(__file__).parent / "reference" / "data.md"
EXAMPLES = {
    "messages": """\
{"messages": [{"role": "system", "content": "You help."}, {"role": "user", "content": "Where is my parcel?"}, \
{"role": "assistant", "content": "It is on its way."}]}""",
    "sharegpt": """\
{"conversations": [{"from": "human", "value": "Where is it?"}, {"from": "gpt", "value": "On its way."}]}""",
    "turns": """\
{"prompt": [{"role": "user", "content": "Where is it?"}], \
"completion": [{"role": "assistant", "content": "On its way."}]}""",
    "alpaca": """\
{"instruction": "Make it polite.", "input": "Where is it?", "output": "Could you tell me where it is?"}""",
    "prompt": """{"prompt": "clause about late delivery", "completion": "The supplier pays for each day."}""",
    "labels": """{"text": "my card was swallowed", "label": "card"}""",
    "text": """{"text": "A whole document, of any length."}""",
}
HEAD = """\
# What data is read

Made from the tables that read it by `docs/make_data_reference.py`; do not edit. `finesmith check DATA` says how a
file was read, and `finesmith show-tokens DATA` what is learnt of a row.

## Files

One file, a folder, or a data set on a hub (`owner/name` or `owner/name:config`, extra `hub`).
Plain, gzipped (`.gz`) or zstd (`.zst`, extra `zstd`).
"""
FOLDER = """\
A folder may hold the parts as files, such as `train.jsonl` and `test.jsonl`: a part that is there is taken as it
is, one that is missing is cut from the training rows (`data.validation`, `data.test`). Files whose names say no
part are read as one. A part may also be named by itself, whatever its file is called:
`finesmith tune train.jsonl data.validation=checked.jsonl` takes those rows to choose the best step; the test rows are
still cut from `train.jsonl`.

These words mean a part, wherever they stand in a file's or folder's name (`my-validation-set.jsonl`); a name that
means two is refused:
"""
SHAPE = """\
## Shapes

Which shape a file has is told from its column names; the task follows from the shape. Where they say too little, a
short column of few values beside a long one is guessed to be its label, and that is said.
`data.columns.text=subject data.columns.label=queue` says it for any file. Columns that are not used are named by
`check`, `tune` and `show-tokens`.
"""
LABELS = """\
A label is text or a whole number. Several labels for a text are a list in every row, in CSV as text in the cell, in
JSON (`["refund", "card"]`) or as pandas writes it (`['refund', 'card']`); an empty list says that none holds. Each
label then gets its own probability, and the metric is micro-F1.
"""
MESSAGES = """\
## Messages

The assistant's turns are learnt, the end of each included; not a greeting before the user's first turn, nor, where
prompt and completion are lists, those of the prompt unless their weight says so. A turn with `"weight": 0` (or
`"train": false`) is read and not learnt; where it is the last, the row ends with the last turn that is learnt, which is
also the one that is scored. Weights between 0 and 1 count in proportion. `content` is text, or a list
of parts of type `text`. `tool_calls` (OpenAI's older `function_call` too) stand in an assistant's turn, and `tools`
(older `functions`) in a column of the row. What the assistant thinks is its `reasoning_content` (`thinking` and
`reasoning` are read as the same) and learnt with the answer, where the model's template writes it. Other keys of a
turn are handed to the template. A turn of the role `function_call` (LLaMA-Factory) is nothing but calls: its content is
`{"name", "arguments"}` as JSON, or a list of such. A row has to end with an assistant's turn. These roles are known:
"""
NAMES_HEAD = """\
## Names of columns

Case does not matter. A name in the last column counts only where no other is there. `group` holds rows together
that must not be parted (all tickets of one customer); `id` is kept with every answer.
"""
TAIL = """\
## What `finesmith predict` takes

The same files, without labels or answers; `--format` says what an ending does not. For a run on
conversations: `messages` (a last assistant's turn is left out, it is for the model to write), `prompt`, or
`instruction` with `input`; a text alone is one user's turn. The lines of an OpenAI batch file (`custom_id`, `body`) are
answered under their ids; what a `body` says of how to answer (`max_tokens`, `temperature`, `response_format`,
`tool_choice`) is not used, and named. `--column` names the column of any other file.

With `-` the rows come on stdin, one a line: texts, or where every line is a JSON object rows as in a JSONL file. Where
writing was learnt, a line with `messages` is such a row beside texts too. Objects in which no column is known as the
input are answered as they stand, and that is said; `--column` names one. `--format csv` reads a table from stdin.

All rows are looked at before the first is answered. Those that cannot be are named, all of them, with file, line and
reason: what cannot be read, turns that the template refuses, a prompt that fills the context. Nothing is answered then;
with `--skip-bad-rows` the others are, and those have `"output": null` and the reason in `"error"`.

Every 1,000 answers are written to stdout, or with `--out answers.jsonl` to `answers.jsonl.partial`: after Ctrl-C, a
kill or an error of the machine the same command goes on from there. It has to be the same model, the same rows and the
same `--abstain`, else it is refused (`--force` begins anew). The file goes away when `answers.jsonl` is written.

In Python a text, a list of `{"role", "content"}`, or a mapping with `messages`
and `tools`, for each row.

Each line of the answers has `id` and `output`, a classifier's also `scores`. `"cut": true` (in Python `Prediction.cut`)
marks a text that came to the limit of `generation.max_new_tokens`, or to the end of the context, before its own end;
how many do is said on stderr, and of the test rows in the notes of the run.

## What is not supported

- Images, audio and files in messages: a part of another type than `text` makes the row unusable.
- Preferences (DPO, ORPO: `chosen` and `rejected`) and rewards.
- Regression: numbers are not learnt as numbers; `check` warns where all labels are decimal.
- Labels of single words or passages (token classification), and two texts a row (text pairs).
- Encoder-decoder models.
"""


def render() -> str:
    """The whole page."""
    lines = [HEAD, "| ending | format |", "|---|---|"]
    lines += [f"| `{ending}` | {name} |" for ending, name in suffixes().items()]
    lines += [
        "",
        FOLDER,
        "| part | words |",
        "|---|---|",
        *_grouped(PARTS),
        "",
        HUB,
        SHAPE,
        *_shapes(),
        LABELS,
        MESSAGES,
    ]
    lines += ["| role | names |", "|---|---|", *_grouped(ROLES), "", NAMES_HEAD]
    lines += ["| word | names | where no other is there |", "|---|---|---|"]
    lines += [f"| `{word}` | {_ticked(names.strong)} | {_ticked(names.weak)} |" for word, names in NAMES.items()]
    return "\n".join([*lines, "", TAIL])


def _shapes() -> Iterator[str]:
    for name, shape in SHAPES.items():
        more = _ticked((*shape.optional, *COMMON))
        meaning = shape.meaning[0].upper() + shape.meaning[1:]
        yield f"### `{name}`: task {shape.task}\n\n{meaning}. Beside them: {more}.\n"
        yield f"```json\n{EXAMPLES[name]}\n```\n"


def _grouped(names: dict[str, str]) -> Iterator[str]:
    for ours in dict.fromkeys(names.values()):
        yield f"| `{ours}` | {_ticked(tuple(name for name, meant in names.items() if meant == ours))} |"


def _ticked(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words)


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
