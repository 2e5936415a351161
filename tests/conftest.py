"""Tiny models from real architecture classes, a trained-in-the-test tokenizer, toy data. No network, no patching."""

import csv
import json
import os
import random
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_MODULES_CACHE"] = str(
    Path(tempfile.gettempdir()) / f"finesmith-test-modules-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: on a busy machine a second thread costs 50 times

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}<start_of_turn>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}"
    " {{ message['content'] }}{{ eos_token }}"
    "{% else %}[INST] {{ message['content'] }} [/INST]{% endif %}{% endfor %}"
)
# a template that, like Qwen3's, shows thinking only in the last turn: a later prompt changes the earlier text
THINKING = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATES = {
    "chatml": CHATML,
    "llama3": LLAMA3,
    "gemma": GEMMA,
    "mistral": MISTRAL,
    "thinking": THINKING,
    "plain": None,
}
SPECIAL = [
    "<pad>",
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "[INST]",
    "[/INST]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
]
WORDS = (
    "my card was swallowed by the machine please help where is my parcel it never came i want money back for broken "
    "kettle how do i log in password wrong invoice total charged twice delivery late courier refund answer clause"
).split()


def sentence(random_: random.Random, length: int = 8) -> str:
    return " ".join(random_.choice(WORDS) for _ in range(length))


def make_tokenizer(folder: Path, template: str = "plain", *, bos: bool = True):
    """A byte-level BPE tokenizer with the special tokens of several families."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    random_ = random.Random(0)
    core.train_from_iterator(
        [sentence(random_, 30) for _ in range(50)],
        trainers.BpeTrainer(
            vocab_size=420, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        ),
    )
    if bos:
        core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    ends = {"chatml": "<|im_end|>", "thinking": "<|im_end|>", "llama3": "<|eot_id|>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>" if bos else None,
        pad_token="<pad>",
        eos_token=ends.get(template, "</s>"),
        model_max_length=128,
    )
    tokenizer.chat_template = TEMPLATES[template]
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_model(folder: Path, family: str = "llama", template: str = "plain") -> Path:
    """A 2-layer model of a real architecture class with random weights, saved in the standard layout."""
    import torch
    import transformers as tf

    tokenizer = make_tokenizer(folder, template)
    torch.manual_seed(0)
    size = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        "pad_token_id": tokenizer.pad_token_id,
    }
    decoder = {
        **size,
        "intermediate_size": 64,
        "num_key_value_heads": 2,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    makers = {
        "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**decoder)),
        "llama_tied": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**decoder, tie_word_embeddings=True)),
        "qwen3": lambda: tf.Qwen3ForCausalLM(tf.Qwen3Config(**decoder, head_dim=8)),
        "gpt2": lambda: tf.GPT2LMHeadModel(
            tf.GPT2Config(
                vocab_size=len(tokenizer),
                n_embd=32,
                n_layer=2,
                n_head=4,
                n_positions=128,
                bos_token_id=1,
                eos_token_id=2,
            )
        ),
        "bert": lambda: tf.BertForMaskedLM(tf.BertConfig(**size, intermediate_size=64)),
        "roberta": lambda: tf.RobertaForMaskedLM(
            tf.RobertaConfig(**{**size, "max_position_embeddings": 130}, intermediate_size=64)
        ),
        "distilbert": lambda: tf.DistilBertForMaskedLM(
            tf.DistilBertConfig(
                vocab_size=len(tokenizer), dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=128
            )
        ),
    }
    makers[family]().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """`models("llama")` or `models("llama", "chatml")`: the folder of a tiny model, made once a session."""
    made = {}

    def get(family: str = "llama", template: str = "plain") -> str:
        if (family, template) not in made:
            made[family, template] = make_model(tmp_path_factory.mktemp(f"{family}-{template}"), family, template)
        return str(made[family, template])

    return get


def ticket_rows(count: int = 90, seed: int = 0) -> list[dict[str, str]]:
    """Rows whose label can be read off one word."""
    random_ = random.Random(seed)
    keys = {"refund": "refund", "delivery": "parcel", "login": "password"}
    rows = []
    for number in range(count):
        label = sorted(keys)[number % 3]
        words = (
            sentence(random_, random_.randint(3, 9))
            .replace("parcel", "it")
            .replace("refund", "it")
            .replace("password", "it")
        )
        rows.append({"text": f"{words} {keys[label]} {number}", "queue": label})
    return rows


def clause_rows(count: int = 60, seed: int = 0) -> list[dict[str, str]]:
    random_ = random.Random(seed)
    return [
        {"prompt": f"clause about {(topic := sentence(random_, 2))} {number}", "completion": f"the {topic} is late"}
        for number in range(count)
    ]


def chat_rows(count: int = 40, seed: int = 0) -> list[dict]:
    random_ = random.Random(seed)
    return [
        {
            "messages": [
                {"role": "system", "content": "you help"},
                {"role": "user", "content": sentence(random_, 4) + f" {number}"},
                {"role": "assistant", "content": sentence(random_, 3)},
                {"role": "user", "content": sentence(random_, 4)},
                {"role": "assistant", "content": sentence(random_, 3)},
            ]
        }
        for number in range(count)
    ]


def write_jsonl(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def powerless():
    """A folder, and `somebody()`, in which an administrator is somebody else, to whom the rights of files apply."""

    @contextmanager
    def somebody():
        mine = os.geteuid()
        if not mine:
            os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(mine)

    with tempfile.TemporaryDirectory(prefix="finesmith-test-") as place:  # of pytest's own folders others see nothing
        os.chmod(place, 0o777)
        yield Path(place), somebody


@pytest.fixture
def tickets(tmp_path):
    return write_csv(tmp_path / "tickets.csv", ticket_rows())


@pytest.fixture
def clauses(tmp_path):
    return write_jsonl(tmp_path / "clauses.jsonl", clause_rows())


@pytest.fixture
def chats(tmp_path):
    return write_jsonl(tmp_path / "chats.jsonl", chat_rows())


@pytest.fixture
def notes(tmp_path):
    random_ = random.Random(1)
    return write_jsonl(tmp_path / "notes.jsonl", [{"text": sentence(random_, 60 + n)} for n in range(40)])
