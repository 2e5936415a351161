"""Answering: the loss is on the assistant's turns only, the token that ends a turn included."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from finesmith.errors import DataError, ProofError, counted
from finesmith.settings import Settings
from finesmith.tasks import _language, _template
from finesmith.tasks._sequence import Piece, first_difference, joint_sequence, trailing
from finesmith.tasks.base import Batch, Encoded, Progress, epochs_for, length_order, pad, silent, token_batches
from finesmith.types import Conversation, Example, Input, Message, Prediction

if TYPE_CHECKING:
    import torch
    from torch import nn

    from finesmith.models.load import Kind, Loaded

SHORT_ANSWER = 30  # characters: below, answers are values to match and not prose


class GenerationSettings(Settings):
    """How conversations are written and answered."""

    template: Literal["auto", "chat", "plain"] = "auto"
    """auto: the model's own chat template, a plain one (### Request / ### Answer) where it has none."""
    max_new_tokens: Annotated[int, Field(gt=0)] | Literal["auto"] = "auto"
    """Longest answer in tokens; auto: half as long again as the longest training answer."""


@dataclass(frozen=True)
class Learnt:
    """What `fit` takes from the training rows and `prepare` from the model.

    `end` is the token that ends a turn, `stop` all tokens at which generation stops, `preamble` the text that the
    template itself puts before an answer, `longest` the longest training answer (dropped once it is counted).
    """

    short: bool = False
    as_json: bool = False
    longest: str = ""
    new_tokens: int = 256
    end: int = -1
    stop: tuple[int, ...] = ()
    preamble: str = ""


class Generation:
    """The assistant's answer to a conversation, greedy at inference."""

    Settings = GenerationSettings
    kind: Kind = "causal-lm"
    spare = 1
    proves = "prompts as inference sends them, the end of every answer learnt"

    def __init__(self, settings: GenerationSettings, learnt: Learnt | None = None) -> None:
        self.settings = settings
        self.learnt = learnt or Learnt()

    @property
    def primary(self) -> str:
        """Exact match for short values, chrF for prose."""
        return "exact_match" if self.learnt.short else "chrf"

    @property
    def metrics(self) -> tuple[str, ...]:
        """Closeness to the reference, its likelihood, and the format that the training answers share."""
        return (
            self.primary,
            *({"exact_match", "chrf"} - {self.primary}),
            "bits_per_byte",
            "held_out_loss",
            *(("json_valid",) if self.learnt.as_json else ()),
        )

    def fit(self, train: Sequence[Example]) -> Generation:
        """Learns how long answers are and whether all of them are JSON."""
        answers = [_content(example) for example in train]
        lengths = sorted(len(answer) for answer in answers)
        return Generation(
            self.settings,
            Learnt(
                short=lengths[len(lengths) // 2] <= SHORT_ANSWER,
                longest=max(answers, key=lambda answer: (len(answer), answer)),
                as_json=all(_is_json_container(answer) for answer in answers),
            ),
        )

    def state(self) -> dict[str, Any]:
        """What `fit` and `prepare` found."""
        return asdict(self.learnt)

    def restore(self, state: Mapping[str, Any]) -> Generation:
        """The fitted task."""
        return Generation(self.settings, Learnt(**{**state, "stop": tuple(state["stop"])}))

    def default_epochs(self, steps_per_epoch: int) -> int:
        """About 300 steps."""
        return epochs_for(300, steps_per_epoch, least=3, most=10)

    def load_arguments(self) -> dict[str, Any]:
        """A language model needs no labels."""
        return {}

    def head(self, model: nn.Module) -> tuple[str, ...]:
        """No head is added."""
        return ()

    def prepare(self, loaded: Loaded) -> tuple[Generation, tuple[str, ...]]:
        """Settles the template, and the token that ends a turn, in the tokenizer and the generation settings."""
        note = _template.settle(loaded.tokenizer, self.settings.template)
        end = _template.terminator(loaded.tokenizer)
        known = loaded.model.generation_config.eos_token_id
        stop = tuple(sorted({end, *(known if isinstance(known, list) else [] if known is None else [known])}))
        loaded.model.generation_config.eos_token_id = list(stop)
        longest = len(_template.ids(loaded.tokenizer, self.learnt.longest))
        limit = self.settings.max_new_tokens
        learnt = replace(
            self.learnt,
            end=end,
            stop=stop,
            preamble=_template.preamble(loaded.tokenizer),
            longest="",
            new_tokens=limit if limit != "auto" else (longest * 3 // 2 + 8 if longest else self.learnt.new_tokens),
        )
        notes = (f"template: {note}", f"a turn ends with {loaded.tokenizer.convert_ids_to_tokens(end)!r}")
        return Generation(self.settings, learnt), notes

    def encode(
        self, example: Example, row: int, tokenizer: Any, max_length: int, *, final_only: bool = False
    ) -> list[Encoded]:
        """One sequence with every trained turn; one a turn where a later turn's prompt changes the earlier text.

        Raises:
            ProofError: with the row, when the template cannot give a completion or the answer holds its own end token.
        """
        assert isinstance(example.input, Conversation) and isinstance(example.target, Message)
        try:
            turns = _template.turns(tokenizer, example.input, example.target)
            pieces = [self._piece(turn, tokenizer) for turn in (turns[-1:] if final_only else turns)]
        except ProofError as error:
            raise ProofError(f"{example.origin}: {error.message}", problems=error.problems) from error
        if final_only:
            pieces = [replace(piece, weight=1.0) for piece in pieces]
        joint = joint_sequence(pieces)
        sequences = [joint] if joint is not None else [piece.sequence() for piece in pieces]
        return [
            Encoded(
                row, np.asarray(tokens[:max_length], np.int32), weights=np.asarray(weights[:max_length], np.float32)
            )
            for tokens, weights in sequences
            if any(weights)
        ]

    def check(self, example: Example, pieces: Sequence[Encoded], tokenizer: Any) -> Iterable[str]:
        """The last answer follows exactly the prompt that inference sends, and every answer's end is supervised."""
        assert pieces[-1].weights is not None and isinstance(example.target, Message)
        sent = self.prompt(tokenizer, example.input)
        if example.target.weight > 0:
            begins = len(pieces[-1].tokens) - trailing(pieces[-1].weights)
            if pieces[-1].tokens[:begins].tolist() != sent:
                where = first_difference(tokenizer, pieces[-1].tokens[:begins], sent)
                yield f"the prompt trained on differs from the one inference sends: {where}"
        for piece in pieces:
            assert piece.weights is not None
            last = np.flatnonzero((piece.weights > 0) & (np.append(piece.weights[1:], 0) == 0))
            if any(int(piece.tokens[end]) not in self.learnt.stop for end in last):
                end = tokenizer.convert_ids_to_tokens(self.learnt.end)
                yield f"an answer does not end with {end!r}: the model would never stop"

    def loss(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Nats over the supervised tokens by weight, and the sum of the weights."""
        return _language.weighted_loss(model, batch)

    def answer(self, loaded: Loaded, inputs: Sequence[Input], *, progress: Progress = silent) -> list[Prediction]:
        """Greedy answers, without the end token and without what the template puts before an answer."""
        return self._answer(loaded, inputs, progress)

    def sample(
        self, loaded: Loaded, inputs: Sequence[Input], *, temperature: float, seed: int, progress: Progress = silent
    ) -> list[Prediction]:
        """Answers drawn from the model's own probabilities, flattened (or sharpened, below 1) by `temperature`."""
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self._answer(loaded, inputs, progress, temperature)

    def _answer(
        self, loaded: Loaded, inputs: Sequence[Input], progress: Progress, temperature: float = 0.0
    ) -> list[Prediction]:
        tokenizer = loaded.tokenizer
        prompts = [np.asarray(self.prompt(tokenizer, item), np.int64) for item in inputs]
        limits = self._limits(loaded, prompts)
        lengths = [len(prompt) + limit for prompt, limit in zip(prompts, limits, strict=True)]
        answers: list[Prediction] = [Prediction("", None)] * len(prompts)
        for limit in sorted(set(limits)):  # one limit a batch: a long prompt must not cut its neighbours' answers short
            order = [position for position in length_order(lengths) if limits[position] == limit]
            for positions in token_batches(order, lengths, _language.EVALUATION_TOKENS):
                texts = self._generate(loaded, [prompts[position] for position in positions], limit, temperature)
                for position, text in zip(positions, texts, strict=True):
                    answers[position] = Prediction(str(position), text.removeprefix(self.learnt.preamble).strip())
                progress(len(positions))
        return answers

    def measure(
        self, loaded: Loaded, examples: Sequence[Example], *, progress: Progress = silent
    ) -> list[dict[str, float]]:
        """Nats and tokens of the reference answer with its end, and the bytes of its text."""
        sizes = [max(1, len(_content(example).encode())) for example in examples]
        return _language.measure(self, loaded, examples, sizes, 1 << 30, progress)

    def prompt(self, tokenizer: Any, item: Input) -> list[int]:
        """The tokens that inference sends: this is the inference path, and there is no other."""
        conversation = item if isinstance(item, Conversation) else Conversation((Message("user", item, 0.0),))
        return _template.ids(
            tokenizer, _template.render(tokenizer, conversation.messages, conversation.tools, ask=True)
        )

    def steering(self, loaded: Loaded, width: int) -> Any:
        """A transformers logits processor for prompts of so many tokens; None: the model alone decides."""
        return None

    def _piece(self, turn: _template.Turn, tokenizer: Any) -> Piece:
        """A turn as tokens; the end token stands in the answer exactly once."""
        tokens = _template.ids(tokenizer, turn.completion)
        end = self.learnt.end
        if tokens.count(end) > 1:
            raise ProofError(
                f"the answer itself contains the token that ends a turn, "
                f"{tokenizer.convert_ids_to_tokens(end)!r}; the model would learn to stop in mid-answer."
            )
        length = tokens.index(end) + 1 if end in tokens else len(tokens) + 1
        answer = tokens[:length] if end in tokens else [*tokens, end]
        return Piece(_template.ids(tokenizer, turn.prompt), answer, tokens[length:], turn.message.weight)

    def _limits(self, loaded: Loaded, prompts: Sequence[np.ndarray]) -> list[int]:
        """Most tokens of each answer: what the training answers need, as far as the context leaves room."""
        from finesmith.models.load import context_length

        room = context_length(loaded.model.config, loaded.tokenizer)
        long = [
            f"input {place}: {len(prompt)} tokens" for place, prompt in enumerate(prompts, 1) if len(prompt) >= room
        ]
        if long:
            raise DataError(
                f"The context of {room} tokens leaves no room for an answer to {counted(len(long), 'input')}:",
                problems=long,
            )
        return [min(self.learnt.new_tokens, room - len(prompt)) for prompt in prompts]

    def _generate(
        self, loaded: Loaded, prompts: Sequence[np.ndarray], new_tokens: int, temperature: float
    ) -> list[str]:
        import torch

        from finesmith.models.device import autocast

        tokens = torch.from_numpy(pad(prompts, loaded.tokenizer.pad_token_id, left=True)).to(loaded.device)
        mask = torch.from_numpy(pad([np.ones(len(p), np.int64) for p in prompts], 0, left=True)).to(loaded.device)
        loaded.model.eval()
        with torch.inference_mode(), autocast(loaded.device, loaded.dtype):
            out = loaded.model.generate(
                input_ids=tokens,
                attention_mask=mask,
                do_sample=temperature > 0,
                num_beams=1,
                max_new_tokens=new_tokens,
                eos_token_id=list(self.learnt.stop),
                pad_token_id=loaded.tokenizer.pad_token_id,
                temperature=temperature or None,
                top_p=1.0 if temperature else None,
                top_k=0 if temperature else None,
                logits_processor=self.steering(loaded, tokens.shape[1]),
            )
        return loaded.tokenizer.batch_decode(out[:, tokens.shape[1] :], skip_special_tokens=True)


def _content(example: Example) -> str:
    assert isinstance(example.target, Message)
    return example.target.content


def _is_json_container(text: str) -> bool:
    try:
        return isinstance(json.loads(text), (dict, list))
    except ValueError:
        return False


PLUGIN = Generation
