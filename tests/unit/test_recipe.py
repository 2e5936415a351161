"""Strict, complete, and everything that is wrong said at once with its line."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finesmith import conflicts, run
from finesmith import recipe as recipes
from finesmith.errors import RecipeError
from finesmith.problems import OTHERS, REMARKS
from finesmith.recipe import from_source, load, make, parse_assignments, recipe_class, schema, settings_called
from finesmith.settings import Settings
from finesmith.train.speed import SpeedSettings
from tests.conftest import ticket_rows, write_csv, write_jsonl

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def read(tmp_path):
    """`read(text, overrides)`: the recipe in a file of that text."""

    def get(text, overrides=None):
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return load(path, overrides)

    return get


@pytest.fixture
def problems(read, tmp_path):
    """`problems(text)`: what is wrong with it, each with `line: ` instead of the whole path."""

    def get(text, overrides=None):
        with pytest.raises(RecipeError) as error:
            read(text, overrides)
        assert error.value.message == "The recipe cannot be used:"
        return [problem.removeprefix(f"{tmp_path}/recipe.yaml:") for problem in error.value.problems]

    return get


def test_a_small_recipe_has_every_default(read):
    recipe = read("data: tickets.csv\n")
    assert (recipe.data.path, recipe.model.name, recipe.task, recipe.method) == (
        "tickets.csv",
        "embedded",
        "auto",
        "lora",
    )
    assert (recipe.train.learning_rate, recipe.train.batch_size, recipe.seed) == ("auto", 16, 0)


@pytest.mark.parametrize(("text", "value"), [("1e-5", 1e-5), ("2E-4", 2e-4), ("3", 3.0), (".5", 0.5), ("1.5e+0", 1.5)])
def test_numbers_are_numbers(read, text, value):
    rate = read(f"data: a.csv\ntrain:\n  learning_rate: {text}\n").train.learning_rate
    assert rate == value and isinstance(rate, float)
    assert parse_assignments([f"train.learning_rate={text}"])["train"]["learning_rate"] == value


def test_yaml_1_2_has_no_norwegian_problem(read):
    recipe = read("data: {path: a.csv, columns: {text: no, label: yes}}\nout: on\n")
    assert recipe.data.columns == {"text": "no", "label": "yes"} and recipe.out == "on"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("train:\n  batch_size: '8'", "3: 'train.batch_size' is \"8\": it should be a valid integer."),
        ("seed: 1.0", "2: 'seed' is 1.0: it should be a valid integer."),
        ("seed: true", "2: 'seed' is true: it should be a valid integer."),
        ("out: 3", "2: 'out' is 3: it should be a valid string."),
        ("model: {from_scratch: 1}\nmethod: full", "2: 'model.from_scratch' is 1: it should be a valid boolean."),
        ("train: {keep: worst}", "2: 'train.keep' is \"worst\": it should be 'best' or 'last'."),
        ("train: {clip: 0}", "2: 'train.clip' is 0: it should be greater than 0."),
        ("train: {warmup: 1}", "2: 'train.warmup' is 1: it should be less than 1."),
        (
            "train: {learning_rate: .inf}",
            "2: 'train.learning_rate' is Infinity: it should be a finite number or 'auto'.",
        ),
        ("train: {learning_rate: -1}", "2: 'train.learning_rate' is -1: it should be greater than 0 or 'auto'."),
        ("train: {epochs: fast}", "2: 'train.epochs' is \"fast\": it should be a valid number or 'auto'."),
        ("train: 3", "2: 'train' is 3: it should be a section of settings."),
        ("train:", "2: 'train' is null: it should be a section of settings."),
        ("lora: {target_modules: q_proj}", "2: 'lora.target_modules' is \"q_proj\": it should be a valid tuple."),
        ("lora:\n  target_modules: [q_proj, 3]", "3: 'lora.target_modules.1' is 3: it should be a valid string."),
        ("seed: -1", "2: 'seed' is -1: it should be greater than or equal to 0."),
    ],
)
def test_a_value_is_never_converted(problems, text, wrong):
    assert problems(f"data: a.csv\n{text}\n") == [wrong]


def test_an_unknown_key_names_the_nearest(problems):
    known = "alpha, dropout, last_layers, rank, target_modules"
    assert problems("data: a.csv\nlora:\n  alpha: 8.0\n  rnk: 3\n") == [
        f"4: unknown setting 'lora.rnk'. Did you mean 'rank'? Known: {known}."
    ]
    assert problems("data: a.csv\nmetod: lora\n")[0].startswith(
        "2: unknown setting 'metod'. Did you mean 'method'? Known: "
    )


def test_a_setting_in_the_wrong_section_names_the_right_one(problems):
    assert problems("data: a.csv\nlearning_rate: 1e-4\n") == [
        "2: unknown setting 'learning_rate'. Did you mean 'train.learning_rate'?"
    ]
    assert problems("data: a.csv\ntrain: {rank: 4}\n") == ["2: unknown setting 'train.rank'. Did you mean 'lora.rank'?"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("n_epochs: 3", "train.epochs'?"),
        ("train: {num_train_epochs: 3}", "train.epochs'?"),
        ("per_device_train_batch_size: 8", "train.batch_size' (all rows of one step, however many go at once)?"),
        ("learning_rate_multiplier: 2", "train.learning_rate' (the rate itself)?"),
        ("learning_rat: 1e-4", "train.learning_rate'?"),
        ("training_file: a.jsonl", "data.path' (on the command line the first word)?"),
        ("lora_alpha: 8", "lora.alpha'?"),
        ("lora: {r: 8}", "lora.rank'?"),
        ("number_of_gpus: 2", None),
    ],
)
def test_a_setting_as_other_tools_call_it_names_ours(problems, given, meant):
    (found,) = problems(f"data: a.csv\n{given}\n")
    assert f"Did you mean '{meant}" in found if meant else "Did you mean" not in found


def test_what_other_tools_call_by_another_name_is_a_setting_here():
    for setting in {**OTHERS, **REMARKS}:
        assert settings_called(setting) == [setting]
    names = " ".join(OTHERS.values()).split()
    assert len(names) == len(set(names)) and not any(settings_called(name) for name in names)


def test_all_problems_at_once(problems):
    found = problems("task: clasification\nseed: x\ntrain:\n  epochs: 3\n  max_steps: 4\n  batchsize: 8\n")
    lines = sorted(found)
    assert len(lines) == 5
    assert any("'data' is missing" in line for line in lines)
    assert any(line.startswith("1: unknown task 'clasification'. Did you mean 'classification'?") for line in lines)
    assert any(line.startswith("2: 'seed' is \"x\"") for line in lines)
    assert any(line == "5: give either train.epochs or train.max_steps, not both." for line in lines)
    assert any(line.startswith("6: unknown setting 'train.batchsize'. Did you mean 'batch_size'?") for line in lines)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("method: full\nlora: {rank: 3}", "3: 'lora' has no effect: the method is 'full'."),
        ("last_layers: {count: 1}", "2: 'last_layers' has no effect: the method is 'lora'."),
        ("task: text\ngeneration: {template: plain}", "3: 'generation' has no effect: the task is 'text'."),
        ("train: {epochs: 1, max_steps: 4}", "2: give either train.epochs or train.max_steps, not both."),
        (
            "model: {from_scratch: true}",
            "2: model.from_scratch with method 'lora' leaves most weights random. Use method: full.",
        ),
        (
            "method: head\nmodel: {from_scratch: true}",
            "3: model.from_scratch with method 'head' leaves most weights random. Use method: full.",
        ),
        (
            "model: {quantize: nf4}\nmethod: full",
            "2: model.quantize needs adapters: method 'full' moves weights of the base. Use method: lora.",
        ),
        (
            "train: {optimizer: muon}",
            "2: train.optimizer: muon is for whole hidden matrices, and method 'lora' moves none. "
            "Use method: full or last_layers.",
        ),
        (
            "model: {attention: eager}\nspeed: {block_attention: 64}",
            "3: speed.block_attention has no effect: model.attention is 'eager', and that is what computes it.",
        ),
        (
            "model: {attention: flash_attention_2}\ntrain: {packing: true}",
            "3: train.packing masks the rows of a packed sequence from one another, which flash_attention_2 cannot do. "
            "Leave out one of the two.",
        ),
        (
            "speed: {packing: false, block_attention: 256}",
            "2: speed.block_attention has no effect: speed.packing is false, "
            "and only packed sequences are computed so.",
        ),
        (
            "method: full\nspeed: {adapter: compute}",
            "3: speed.adapter has no effect: method 'full' trains no adapters.",
        ),
        (
            "lora: {dropout: 0.1}\nspeed: {adapter: compute}",
            "3: speed.adapter has no effect: with lora.dropout above 0 adapters are computed as PEFT does.",
        ),
        (
            "method: full\nspeed: {cache_gigabytes: 20}",
            "3: speed.cache_gigabytes has no effect: method 'full' moves every layer, so that none gives "
            "the same in every epoch.",
        ),
        (
            "speed: {cache_gigabytes: 20}",
            "2: speed.cache_gigabytes has no effect: every layer has adapters (see lora.last_layers), so that none "
            "gives the same in every epoch.",
        ),
        (
            "model: {quantize: nf4}\nspeed: {adapter: compute}",
            "3: speed.adapter has no effect: the layers of a quantised base have their adapters computed as PEFT does.",
        ),
        (
            "task: classification\nspeed: {chunked_loss: false}",
            "3: speed.chunked_loss has no effect: a classifier has no output layer over a vocabulary.",
        ),
        ("method: lara", "2: unknown method 'lara'. Did you mean 'lora'? Known: full, head, last_layers, lora."),
    ],
)
def test_what_contradicts_or_has_no_effect(problems, text, wrong):
    assert problems(f"data: a.csv\n{text}\n") == [wrong]


def test_what_may_stand_together(read):
    assert read("data: a.csv\nmethod: full\nlora: {}\n").method == "full"
    assert read("data: a.csv\nmodel: {from_scratch: true}\nmethod: full\n").model.from_scratch
    assert read("data: a.csv\nmodel: {attention: eager}\nspeed: {block_attention: 0, packing: true}\n").speed.packing
    assert read("data: a.csv\nmodel: {attention: sdpa}\ntrain: {packing: true}\n").train.packing
    assert read("data: a.csv\ntrain: {epochs: auto, max_steps: 5}\n").train.max_steps == 5
    assert read("data: a.csv\nclassification: {head_first: false}\n").task == "auto"  # until the data has been seen
    assert read("data: a.csv\nspeed: {packing: false, block_attention: 0}\n").speed.block_attention == 0
    assert read("data: a.csv\nmethod: full\nspeed: {cache_gigabytes: 0}\n").speed.cache_gigabytes == 0
    assert SpeedSettings().cache_gigabytes == conflicts.KEPT
    for less in ("last_layers: 2", "target_modules: [c_attn]"):  # names that the lowest layer may lack
        assert read(f"data: a.csv\nlora: {{{less}}}\nspeed: {{cache_gigabytes: 9}}\n").speed.cache_gigabytes == 9
    assert read("data: {path: a.csv, over_length: drop}\n").data.over_length == "drop"  # until the data has been seen


def test_what_has_no_effect_once_the_task_is_known_is_refused_then(tmp_path):
    """With `task: auto` the shape of the data decides."""
    data = write_csv(tmp_path / "tickets.csv", ticket_rows(60))
    recipe = recipes.make({"data": {"path": str(data)}, "speed": {"chunked_loss": False}})
    with pytest.raises(RecipeError, match=r"speed.chunked_loss has no effect"):
        run.prepare(recipe)


def test_a_recipe_for_another_method_leaves_out_what_has_no_effect_there():
    given = {
        "data": {"path": "a.csv"},
        "lora": {"last_layers": 1},
        "speed": {"adapter": "compute", "cache_gigabytes": 9.0},
    }
    lora = recipes.make({**given, "speed": {**given["speed"], "packing": False}})
    full = lora.with_method("full")
    assert (full.speed.adapter, full.speed.cache_gigabytes, full.speed.packing) == ("float32", 4.0, False)
    assert lora.with_method("lora") == lora
    assert lora.with_method("last_layers").speed.cache_gigabytes == 9.0


def test_the_way_to_a_template_of_ones_own_is_said(problems):
    own = "chat_template.jinja in the model's folder"
    (said,) = problems("data: a.csv\ngeneration: {template: chatml}\n")
    assert said.startswith("2: 'generation.template' is \"chatml\": it should be 'auto', 'chat' or 'plain'.")
    assert said.endswith(f"A template of your own is the file {own}.")
    (said,) = problems("data: a.csv\nchat_template: chatml\n")
    assert f"Did you mean 'generation.template' (auto, chat or plain; one of your own is {own})?" in said


@pytest.mark.parametrize("policy", ["drop", "truncate"])
@pytest.mark.parametrize("task", ["text", "auto"])
def test_no_document_is_too_long(tmp_path, task, policy):
    data = write_jsonl(tmp_path / "notes.jsonl", [{"text": f"a note about parcel {n}"} for n in range(40)])
    with pytest.raises(RecipeError, match=r"data.over_length has no effect: documents are read in windows"):
        run.prepare(recipes.make({"data": {"path": str(data), "over_length": policy}, "task": task}))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("- a\n", ":1: a recipe is a mapping of settings, such as 'data: tickets.csv'."),
        ("", ":1: a recipe is a mapping of settings, such as 'data: tickets.csv'."),
        ("data: a.csv\ntrain: [1\n", ":3: not valid YAML: "),
        ("data: a.csv\ndata: b.csv\n", ":2: not valid YAML: found duplicate key"),
        ("data: a.csv\nmodel:embedded\nseed: 1\n", ":2: not valid YAML: could not find expected ':'"),
    ],
)
def test_what_is_no_recipe(read, text, wrong):
    with pytest.raises(RecipeError) as error:
        read(text)
    assert wrong in str(error.value)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(RecipeError, match=r"Cannot read the recipe .*nothing.yaml"):
        load(tmp_path / "nothing.yaml")
    (tmp_path / "latin.yaml").write_bytes("data: é.csv".encode("latin-1"))
    with pytest.raises(RecipeError, match="Cannot read the recipe"):
        load(tmp_path / "latin.yaml")


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    (tmp_path / "recipe.yaml").write_text("data: a.csv\n", encoding="utf-8-sig")
    assert load(tmp_path / "recipe.yaml").data.path == "a.csv"


def test_json_is_yaml(read):
    assert read('{"data": "a.csv", "train": {"learning_rate": 1e-5}}').train.learning_rate == 1e-5


def test_bare_strings(read):
    short = read("data: a.csv\nmodel: owner/name\n")
    assert short == read("data: {path: a.csv}\nmodel: {name: owner/name}\n")


def test_overrides_win_and_the_rest_stays(read):
    text = "data: a.csv\nmodel: owner/name\nmethod: full\ntrain: {batch_size: 4, clip: null}\n"
    recipe = read(text, parse_assignments(["train.batch_size=8", "model.dtype=float32", "data.test=0.3"]))
    assert (recipe.train.batch_size, recipe.train.clip, recipe.method) == (8, None, "full")
    assert (recipe.model.name, recipe.model.dtype) == ("owner/name", "float32")
    assert (recipe.data.path, recipe.data.test) == ("a.csv", 0.3)
    assert read(text, {"data": "b.csv"}).data.path == "b.csv"
    assert read("data: a.csv\nmethod: full\nlora: {rank: 2}\n", {"method": "lora"}).section("lora").rank == 2


def test_an_override_is_checked_too(problems):
    assert problems("data: a.csv\ntrain: {epochs: 3}\n", {"train": {"max_steps": 2}}) == [
        "2: give either train.epochs or train.max_steps, not both."
    ]
    with pytest.raises(RecipeError, match=r"unknown setting 'train.epoch'. Did you mean 'epochs'"):
        make(parse_assignments(["data=a.csv", "train.epoch=3"]))


def test_assignments():
    given = ["train.learning_rate=1e-5", "lora.target_modules=[q_proj, v_proj]", "data.columns={text: body}"]
    assert parse_assignments([*given, "train.clip=null", "train.patience=", "out=a=b", "model='8'"]) == {
        "train": {"learning_rate": 1e-5, "clip": None, "patience": None},
        "lora": {"target_modules": ["q_proj", "v_proj"]},
        "data": {"columns": {"text": "body"}},
        "out": "a=b",
        "model": "8",
    }
    assert parse_assignments(["seed=1", "seed=2"]) == {"seed": 2}
    dotted = parse_assignments(["data=a.csv", "data.columns.text=subject", "data.columns.label=queue"])
    assert make(dotted).data.columns == {"text": "subject", "label": "queue"}
    assert parse_assignments(["model=a", "model.dtype=float32"]) == {"model": {"name": "a", "dtype": "float32"}}


@pytest.mark.parametrize("wrong", ["epochs", "=3", " =3", "data.csv"])
def test_what_is_no_assignment(wrong):
    with pytest.raises(RecipeError, match=r"is not a setting: write key=value, such as train.epochs=3"):
        parse_assignments([wrong])
    with pytest.raises(RecipeError, match=r"The value in 'a=\[1' is not valid YAML"):
        parse_assignments(["a=[1"])


def test_from_source(tmp_path):
    (tmp_path / "r.yaml").write_text("data: a.csv\nseed: 3\n")
    assert from_source(str(tmp_path / "r.yaml"), {"method": "full"}).seed == 3
    recipe = from_source("tickets.csv", {"data": {"test": 0.3}, "model": "owner/name", "train": {"epochs": 3}})
    assert (recipe.data.path, recipe.data.test, recipe.model.name) == ("tickets.csv", 0.3, "owner/name")
    assert recipe.train.epochs == 3.0


@pytest.mark.parametrize("data", ["b.csv", {"path": "b.csv"}])
def test_data_named_twice(data):
    with pytest.raises(RecipeError, match=r"The data is named twice: 'a.csv' and data 'b.csv'."):
        from_source("a.csv", {"data": data})


def test_a_recipe_does_not_change():
    with pytest.raises(ValueError, match="frozen"):
        make({"data": "a.csv"}).seed = 3


def test_replace_merges_and_checks():
    recipe = make({"data": "a.csv", "train": {"batch_size": 4}})
    changed = recipe.replace(train={"epochs": 3.0}, seed=2)
    assert (changed.train.batch_size, changed.train.epochs, changed.seed, recipe.seed) == (4, 3.0, 2, 0)
    with pytest.raises(RecipeError, match="'lora' has no effect"):
        make({"data": "a.csv", "lora": {"rank": 2}}).replace(method="full")
    other = make({"data": "a.csv", "lora": {"rank": 2}, "train": {"epochs": 2}}).with_method("full")
    assert (other.method, other.train.epochs) == ("full", 2) and "lora" not in other.model_fields_set
    assert make({"data": "a.csv", "lora": {"rank": 2}}).with_method("lora").section("lora").rank == 2


GIVEN = st.fixed_dictionaries(
    {"data": st.just("a b: #c.csv") | st.just("a.csv")},
    optional={
        "task": st.sampled_from(["auto", "classification", "generation", "text"]),
        "method": st.sampled_from(["full", "lora", "last_layers", "head"]),
        "seed": st.integers(0, 2**32 - 1),
        "out": st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=20),
        "track": st.just(["tensorboard"]),
        "train": st.fixed_dictionaries(
            {},
            optional={
                "learning_rate": st.floats(1e-12, 10) | st.just("auto"),
                "clip": st.none() | st.floats(1e-3, 5),
                "max_steps": st.integers(1, 10**9),
                "keep": st.sampled_from(["best", "last"]),
                "warmup": st.floats(0, 0.99),
            },
        ),
    },
)


@settings(max_examples=80, deadline=None)
@given(values=GIVEN)
def test_a_written_recipe_reads_back_equal(tmp_path_factory, values):
    recipe = make(values)
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load(path) == recipe
    assert load(path).to_yaml() == recipe.to_yaml()


@pytest.mark.parametrize(
    "values",
    [
        {"data": "a.csv", "method": "lora", "lora": {"rank": 3, "target_modules": ["q_proj"]}},
        {"data": "a.csv", "method": "last_layers", "last_layers": {"count": 3}},
        {"data": "a.csv", "task": "generation", "generation": {"template": "plain", "max_new_tokens": 3}},
        {"data": "a.csv", "task": "auto", "classification": {"head_first": False}},
        {"data": {"path": "a.csv", "columns": {"text": "yes"}, "validation": None}},
    ],
)
def test_sections_read_back_equal(read, values):
    assert read(make(values).to_yaml()) == make(values)


def test_the_complete_recipe_has_what_has_an_effect():
    complete = make({"data": "a.csv", "method": "full", "task": "text"}).complete()
    assert set(complete) == {
        "data",
        "task",
        "model",
        "method",
        "train",
        "speed",
        "out",
        "seed",
        "track",
        *("full", "text"),
    }
    assert set(complete["train"]) == set(recipe_class().model_fields["train"].annotation.model_fields)


def sections(owner=None, prefix=""):
    """Every section and setting: dotted name, field, owner."""
    owner = owner or recipe_class()
    for name, field in owner.model_fields.items():
        yield prefix + name, field, owner
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            yield from sections(field.annotation, f"{prefix}{name}.")


def test_the_schema_is_valid_and_complete():
    found = schema()
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(found)) == found
    assert found["additionalProperties"] is False and found["required"] == ["data"]
    for dotted, field, _ in sections():
        node = _schema_at(found, dotted.split("."))
        if "properties" not in node:
            assert node.get("description") and node["description"] == field.description, dotted
            assert "default" in node or field.is_required(), dotted
        else:
            assert node["additionalProperties"] is False and node["description"], dotted


def _schema_at(found, keys):
    node = found
    for key in keys:
        node = node["properties"][key]
        reference = node.get("$ref") or next((part["$ref"] for part in node.get("allOf", []) if "$ref" in part), None)
        node = found["$defs"][reference.rpartition("/")[2]] if reference else node
    return node


def test_the_schema_agrees_with_a_validator():
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/recipe.yaml")), ids=lambda path: path.parent.name)
def test_every_example_is_a_recipe(path):
    assert load(path) == load(path).replace()


def test_there_are_examples():
    assert len(list(EXAMPLES.glob("*/recipe.yaml"))) >= 4


OUTSIDE = '''"""A method of somebody else."""
from pydantic import Field
from finesmith.settings import Settings
from finesmith.train.speed import SpeedSettings
from tests.conftest import ticket_rows, write_csv
class OwnSettings(Settings):
    strength: int = Field(default=3, ge=1)
    """How strong."""
class Own:
    Settings = OwnSettings
    adapter = False
    def __init__(self, settings):
        self.settings = settings
PLUGIN = Own
'''


def test_a_plug_in_from_outside_has_its_section(read, problems, tmp_path, monkeypatch):
    (tmp_path / "elsewhere.py").write_text("")
    package = tmp_path / "other_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "strong.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(str(tmp_path))
    recipe = read("data: a.csv\nmethod: other_package.strong\nstrong: {strength: 5}\n")
    assert recipe.section(recipe.method).strength == 5
    assert read(recipe.to_yaml()) == recipe and "lora" not in recipe.complete()
    assert problems("data: a.csv\nmethod: other_package.strong\nstrong: {strenght: 5}\n") == [
        "3: unknown setting 'strong.strenght'. Did you mean 'strength'? Known: strength."
    ]
    assert problems("data: a.csv\nmethod: other_package.strong\nlora: {rank: 5}\n") == [
        "3: 'lora' has no effect: the method is 'other_package.strong'."
    ]
    with pytest.raises(RecipeError, match=r"The module 'elsewhere.' has no PLUGIN|Cannot import the method"):
        read("data: a.csv\nmethod: elsewhere.nothing\n")


def test_a_plug_in_with_the_name_of_a_setting_is_refused(tmp_path, monkeypatch):
    (tmp_path / "third_package").mkdir()
    (tmp_path / "third_package" / "__init__.py").write_text("")
    (tmp_path / "third_package" / "train.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RecipeError, match=r"^The method 'third_package.train' has the name of a setting, 'train'"):
        make({"data": "a.csv", "method": "third_package.train"})


def test_an_outside_plug_in_does_not_change_the_next_recipe():
    assert "strong" not in recipes.recipe_class().model_fields


def test_the_bare_form_stays_the_path_whatever_else_is_wrong(tmp_path):
    (tmp_path / "r.yaml").write_text("data: t.csv\nmodel: m\n")
    with pytest.raises(RecipeError) as error:
        recipes.load(tmp_path / "r.yaml", {"data": {"colums": {"text": "x"}}})
    assert len(error.value.problems) == 1 and "unknown setting 'data.colums'" in error.value.problems[0]
    assert (
        recipes.load(tmp_path / "r.yaml", {"data": {"validation": 0.3}, "model": {"dtype": "float32"}}).data.path
        == "t.csv"
    )


def test_a_part_is_a_share_or_a_file(problems):
    data = make(parse_assignments(["data=a.csv", "data.validation=valid.csv", "data.test=0.3"])).data
    assert data.files == {"validation": "valid.csv"} and data.test == 0.3
    assert problems("data: {path: a.csv, test: 1.5}\n") == ["1: 'data.test' is 1.5: it should be less than 1."]


@pytest.mark.parametrize(
    ("word", "ways"),
    [
        ("valid.jsonl", "data.validation=valid.jsonl"),
        ("my_test_set.csv", "data.test=my_test_set.csv"),
        ("more.csv", "data.validation=more.csv or data.test=more.csv"),
    ],
)
def test_a_second_file_is_answered_with_the_way_to_name_it(word, ways):
    with pytest.raises(RecipeError) as error:
        parse_assignments([word])
    assert error.value.hint == f"A further file is named as a part: {ways}"
