"""The whole fine-tuning in one flat file, without Finesmith: read top to bottom, change what you like.

    python one_file.py MODEL_FOLDER DATA.jsonl [--out FOLDER]

A LoRA adapter is trained on rows `{"prompt": ..., "completion": ...}`. The library does the same arithmetic (a test
holds both equal, step by step), but it also splits, proves, validates, resumes, survives a lack of memory, and measures
whether it was worth it. None of that is here. Needs torch, transformers, peft and numpy.
"""

import argparse
import json
import math

import numpy as np
import torch
import torch.nn.functional as F
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

# --- what was asked ---------------------------------------------------------------------------------------------------

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", help="folder of a causal language model")
parser.add_argument("data", help="JSONL with prompt and completion")
parser.add_argument("--out", help="where the adapter goes (default: nowhere)")
parser.add_argument("--steps", type=int, default=100, help="optimizer steps")
parser.add_argument("--batch-size", type=int, default=16, help="rows in one optimizer step")
parser.add_argument(
    "--micro-batch", type=int, default=4, help="rows in one forward pass; costs memory, changes nothing"
)
parser.add_argument("--learning-rate", type=float, default=1e-3, help="the peak")
parser.add_argument("--rank", type=int, default=16)
parser.add_argument("--alpha", type=float, default=32.0)
parser.add_argument("--warmup", type=float, default=0.06, help="share of the steps in which the rate rises")
parser.add_argument("--weight-decay", type=float, default=0.01)
parser.add_argument("--clip", type=float, default=1.0, help="largest norm of the gradient")
parser.add_argument("--seed", type=int, default=0)
asked = parser.parse_args()

# --- the model, and the adapter on all its linear layers but the output -----------------------------------------------

tokenizer = AutoTokenizer.from_pretrained(asked.model)
model = AutoModelForCausalLM.from_pretrained(asked.model, dtype=torch.float32)
torch.manual_seed(asked.seed)  # PEFT draws A from the global generator; B starts at zero, so step 1 is the base model
lora = LoraConfig(
    task_type=TaskType.CAUSAL_LM, r=asked.rank, lora_alpha=asked.alpha, lora_dropout=0.0, target_modules="all-linear"
)
model = get_peft_model(model, lora)

# --- the rows as tokens, and a mask: 1 where there is something to learn ----------------------------------------------

# Some tokenizers begin every text with a start token. The template must then begin with it too, once.
alone = tokenizer("a")["input_ids"]
start = [tokenizer.bos_token_id] if alone[0] == tokenizer.bos_token_id is not None else []


def encode(row: dict) -> tuple[list[int], list[int]]:
    """Tokens of a row and their mask. Prompt and completion are tokenized apart: so inference will meet them."""
    prompt = start + tokenizer(f"### Request:\n{row['prompt']}\n\n### Answer:\n", add_special_tokens=False)["input_ids"]
    answer = tokenizer(row["completion"], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    return prompt + answer, [0] * len(prompt) + [1] * len(answer)  # the end token is learnt, or it never stops


with open(asked.data, encoding="utf-8") as file:
    rows = [encode(json.loads(line)) for line in file]


def batches_of_epoch(number: int) -> list[list[int]]:
    """All rows once, in batches: shuffled, put next to rows of like length (less padding), and shuffled again."""
    random = np.random.default_rng([asked.seed, number])  # a pure function of seed and epoch
    order, batches = random.permutation(len(rows)).tolist(), []
    for at in range(0, len(order), 8 * asked.batch_size):  # a bucket of eight batches
        bucket = sorted(order[at : at + 8 * asked.batch_size], key=lambda position: len(rows[position][0]))
        batches += [bucket[i : i + asked.batch_size] for i in range(0, len(bucket), asked.batch_size)]
    return [batches[place] for place in random.permutation(len(batches))]


# --- the training -----------------------------------------------------------------------------------------------------


def rate(step: int) -> float:
    """The learning rate in a step (from 0): up in a line, then down to 0 in a line."""
    rising = math.ceil(asked.warmup * asked.steps)
    if step < rising:
        return asked.learning_rate * (step + 1) / (rising + 1)
    return asked.learning_rate * (1 - (step - rising) / (asked.steps - rising))


def loss_sum(positions: list[int]) -> torch.Tensor:
    """Nats over the learnt tokens of some rows, summed and not averaged: see below."""
    width = max(len(rows[position][0]) for position in positions)
    tokens = torch.zeros(len(positions), width, dtype=torch.long)  # [B, T]; what stands behind a row's end is masked
    learnt, real = torch.zeros_like(tokens), torch.zeros_like(tokens)
    for i, position in enumerate(positions):
        row, mask = rows[position]
        tokens[i, : len(row)], learnt[i, : len(row)], real[i, : len(row)] = torch.tensor(row), torch.tensor(mask), 1
    logits = model(input_ids=tokens, attention_mask=real).logits  # [B, T, V]
    chosen = learnt[:, 1:] > 0  # the logits at t predict the token at t + 1
    return F.cross_entropy(logits[:, :-1][chosen], tokens[:, 1:][chosen], reduction="sum")


weights = [weight for weight in model.parameters() if weight.requires_grad]
optimizer = torch.optim.AdamW(weights, lr=asked.learning_rate, weight_decay=asked.weight_decay)
model.train()
epoch, queue = 0, []
for step in range(asked.steps):
    if not queue:
        epoch, queue = epoch + 1, batches_of_epoch(epoch)
    batch = queue.pop(0)
    # One mean over all learnt tokens of the step. A mean of the passes' means would weigh a token by the luck of which
    # pass it is in, and the result would depend on --micro-batch.
    count, total = sum(sum(rows[position][1]) for position in batch), 0.0
    for at in range(0, len(batch), asked.micro_batch):
        loss = loss_sum(batch[at : at + asked.micro_batch])
        (loss / count).backward()  # gradients add up
        total += loss.item()
    torch.nn.utils.clip_grad_norm_(weights, asked.clip)
    optimizer.param_groups[0]["lr"] = rate(step)
    optimizer.step()
    optimizer.zero_grad()
    print(f"step {step + 1} of {asked.steps}: loss {total / count:.7f}", flush=True)

if asked.out:
    model.save_pretrained(asked.out)  # adapter_model.safetensors: PEFT's own format, which every other tool reads
    tokenizer.save_pretrained(asked.out)
