"""Answering: the loss is on the assistant's turns only, the token that ends a turn included."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from finesmith.errors import DataError, ProofError, counted
from finesmith.settings import Settings
from finesmith.tasks import _evaluation, _language, _template
from finesmith.tasks._learnt import Learnt, is_json, learn
from finesmith.tasks._sequence import Piece, first_difference, joint_sequence, trailing
from finesmith.tasks.base import Batch, Encoded, Progress, epochs_for, silent
from finesmith.types import Conversation, Example, Input, Message, Prediction

if TYPE_CHECKING:
    import torch
    from torch import nn

    from finesmith.models.load import Kind, Loaded


class GenerationSettings(Settings):
    """How conversations are written and answered."""

    template: Literal["auto", "chat", "plain"] = "auto"
    """auto: the model's own chat template, a plain one where it has none (### Request / ### Answer, tools as JSON)."""
    max_new_tokens: Annotated[int, Field(gt=0)] | Literal["auto"] = "auto"
    """Longest answer in tokens; auto: half as long again as the longest training answer."""


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
        """Exact match for short values and tool calls, chrF for prose."""
        return "exact_match" if self.learnt.short or self.learnt.calls else "chrf"

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
        """Learns how long answers are, whether all of them are JSON, and whether tools are offered and called."""
        return Generation(self.settings, learn(train))

    def state(self) -> dict[str, Any]:
        """What `fit` and `prepare` found."""
        return asdict(self.learnt)

    def restore(self, state: Mapping[str, Any]) -> Generation:
        """The fitted task."""
        return Generation(self.settings, Learnt(**{**state, "stop": tuple(state["stop"])}))

    def for_base(self) -> Generation:
        """The same task for a model that was not trained on the preamble: it is sent that behind the prompt.

        A base that thinks by itself would spend the length of an answer on thoughts, and the gain would be just that.
        """
        return type(self)(self.settings, replace(self.learnt, begun=self.learnt.preamble))

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
        neutral = _language.neutralise(loaded.model.generation_config)
        limit, preamble = self.settings.max_new_tokens, _template.preamble(loaded.tokenizer)
        settled = Generation(self.settings, replace(self.learnt, end=end, stop=stop, preamble=preamble))
        call = settled._longest_call(loaded.tokenizer) if self.learnt.calling else ""
        longest = max(len(_template.ids(loaded.tokenizer, text)) for text in (self.learnt.longest, call))
        learnt = replace(
            settled.learnt,
            as_json=self.learnt.as_json and (not call or is_json(call)),
            longest="",
            calling="",
            opened=0,
            new_tokens=limit if limit != "auto" else (longest * 3 // 2 + 8 if longest else self.learnt.new_tokens),
        )
        notes = (f"template: {note}", f"a turn ends with {loaded.tokenizer.convert_ids_to_tokens(end)!r}")
        return Generation(self.settings, learnt), (*notes, *neutral, *self.learnt.notes())

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
            raise _of_row(example, error) from error
        if final_only:  # to be measured: what the template itself puts before an answer is no part of it
            lead = _template.ids(tokenizer, self.learnt.preamble)
            pieces = [replace(piece.given(lead), weight=1.0) for piece in pieces]
        joint = joint_sequence(pieces)
        sequences = [joint] if joint is not None else [piece.sequence() for piece in pieces]
        return [
            Encoded(
                row, np.asarray(tokens[:max_length], np.int32), weights=np.asarray(weights[:max_length], np.float32)
            )
            for tokens, weights in sequences
            if any(weights)
        ]

    def written(self, tokenizer: Any, example: Example) -> Example:
        """The row with its target as the template writes it, where that calls tools: what answers are compared with.

        Raises:
            ProofError: with the row, as `encode`.
        """
        target = example.target
        if not isinstance(target, Message) or not target.calls or target.written is not None:
            return example
        assert isinstance(example.input, Conversation)
        try:
            text = self._written(tokenizer, example.input, target)
        except ProofError as error:
            raise _of_row(example, error) from error
        return replace(example, target=replace(target, written=text))

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
        prompts = [np.asarray(self.prompt(loaded.tokenizer, item), np.int64) for item in inputs]
        limits = self._limits(loaded, prompts)
        lengths = [len(prompt) + limit for prompt, limit in zip(prompts, limits, strict=True)]
        answers: list[Prediction] = [Prediction("", None)] * len(prompts)

        def write(positions: list[int]) -> None:
            batch = [prompts[position] for position in positions]
            found = _language.generate(
                loaded,
                batch,
                new_tokens=limits[positions[0]],
                temperature=temperature,
                stop=self.learnt.stop,
                steering=self.steering(loaded, max(map(len, batch))),
            )
            for position, tokens in zip(positions, found, strict=True):
                answers[position] = Prediction(str(position), self._read(loaded.tokenizer, tokens))
            progress(len(positions))

        _evaluation.in_batches(loaded.model, lengths, write, kinds=limits, writing=True)
        return answers

    def measure(
        self, loaded: Loaded, examples: Sequence[Example], *, progress: Progress = silent
    ) -> list[dict[str, float]]:
        """Nats and tokens of the reference answer with its end, and the bytes of its text."""
        rows = (self.written(loaded.tokenizer, example).target for example in examples)
        sizes = [max(1, len(row.text.encode())) if isinstance(row, Message) else 1 for row in rows]
        return _language.measure(self, loaded, examples, sizes, 1 << 30, progress)

    def prompt(self, tokenizer: Any, item: Input) -> list[int]:
        """The tokens that inference sends: this is the inference path, and there is no other."""
        conversation = item if isinstance(item, Conversation) else Conversation((Message("user", item, 0.0),))
        asked = _template.render(tokenizer, conversation.messages, conversation.tools, ask=True)
        return _template.ids(tokenizer, asked) + _template.ids(tokenizer, self.learnt.begun)

    def steering(self, loaded: Loaded, width: int) -> Any:
        """A transformers logits processor for prompts of so many tokens; None: the model alone decides."""
        return None

    def _piece(self, turn: _template.Turn, tokenizer: Any) -> Piece:
        """A turn as tokens; the end token stands in the answer exactly once."""
        tokens = _template.ids(tokenizer, turn.completion)
        end = self.learnt.end
        if turn.message.calls and end not in tokens:  # a call may end with a token of its own
            end = next((token for token in tokens if token in self.learnt.stop), end)
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

    def _read(self, tokenizer: Any, tokens: Sequence[int]) -> str:
        """The text of an answer up to its end, without the preamble; special tokens count where they may mark calls."""
        length = next((place for place, token in enumerate(tokens) if token in self.learnt.stop), len(tokens))
        text = tokenizer.decode(tokens[:length], skip_special_tokens=not self.learnt.tools)
        return text.removeprefix(self.lead(tokenizer)).strip()

    def lead(self, tokenizer: Any) -> str:
        """The preamble as a decoded answer shows it: of special tokens nothing may be left."""
        lead = _template.ids(tokenizer, self.learnt.preamble)
        return tokenizer.decode(lead, skip_special_tokens=not self.learnt.tools) if lead else ""

    def _written(self, tokenizer: Any, conversation: Conversation, target: Message) -> str:
        """An answer as `_read` would read it if a model had written it."""
        return self._read(
            tokenizer, self._piece(_template.last_turn(tokenizer, conversation, target), tokenizer).answer
        )

    def _longest_call(self, tokenizer: Any) -> str:
        """The longest training answer that calls tools, as the template writes it; as JSON where it refuses that."""
        said = json.loads(self.learnt.calling)
        call = Message(said.pop("role"), said.pop("content"), 1.0, said)
        try:
            return self._written(tokenizer, Conversation((Message("user", "a", 0.0),)), call)
        except ProofError:  # of its row this is said when that is encoded
            return call.text


def _of_row(example: Example, error: ProofError) -> ProofError:
    return ProofError(f"{example.origin}: {error.message}", problems=error.problems, hint=error.hint)


PLUGIN = Generation
