"""Answering: the loss is on the assistant's turns only, the token that ends a turn included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from finesmith.errors import ProofError
from finesmith.settings import Settings
from finesmith.tasks import _answers, _asking, _evaluation, _language, _template
from finesmith.tasks._dates import Day
from finesmith.tasks._learnt import Learnt, is_json, learn
from finesmith.tasks._sequence import first_difference, joint_sequence, trailing
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
    """Most tokens of an answer, with what the template puts before it; auto: half as long again as the training answer
    with most tokens."""
    date: Day = "auto"
    """What a chat template writes that says today's date (Llama 3.2, gpt-oss), `2026-11-22`; auto: the day on which the
    run begins. It stays so: a model is asked as it was trained."""


class Generation:
    """The assistant's answer to a conversation, greedy at inference."""

    Settings = GenerationSettings
    kind: Kind = "causal-lm"
    spare = 1
    proves = "prompts as inference sends them, the end of every answer learnt"

    def __init__(
        self, settings: GenerationSettings, learnt: Learnt | None = None, answers: Sequence[Message] = ()
    ) -> None:
        """`answers` are those of the training rows, until `prepare` has counted their tokens."""
        self.settings = settings
        self.learnt = learnt or Learnt()
        self._answers = answers

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
        return Generation(self.settings, learn(train), [row.target for row in train if isinstance(row.target, Message)])

    def state(self) -> dict[str, Any]:
        """What `fit` and `prepare` found."""
        return asdict(self.learnt)

    def restore(self, state: Mapping[str, Any]) -> Generation:
        """The fitted task."""
        opening = state.get("opening", state.get("preamble", ""))  # runs from before both were told apart
        known = {name: value for name, value in state.items() if name in Learnt.__dataclass_fields__}  # fewer than once
        return Generation(self.settings, Learnt(**{**known, "opening": opening, "stop": tuple(state["stop"])}))

    def for_base(self) -> Generation:
        """The same task for a model that was not trained on the preamble: it is sent that behind the prompt.

        A base that thinks by itself would spend the length of an answer on thoughts, and the gain would be just that;
        where the rows think, it may think too.
        """
        return type(self)(self.settings, replace(self.learnt, begun=self.learnt.opening))

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
        note, day = _template.settle(loaded.tokenizer, self.settings.template, self.settings.date)
        end = _template.terminator(loaded.tokenizer)
        ends = loaded.model.generation_config.eos_token_id
        stop = tuple(sorted({end, *(ends if isinstance(ends, list) else [] if ends is None else [ends])}))
        loaded.model.generation_config.eos_token_id = list(stop)
        neutral = _language.neutralise(loaded.model.generation_config)
        preamble, thought_end = _template.preamble(loaded.tokenizer), _template.thought_end(loaded.tokenizer)
        known = replace(self.learnt, end=end, stop=stop, preamble=preamble, thought_end=thought_end)
        talking, calling = (_answers.longest(loaded.tokenizer, self._answers, calls=calls) for calls in (False, True))
        found = [_answers.counted(known, loaded.tokenizer, each) for each in (talking, calling) if each]
        longest = max((tokens for tokens, _ in found), default=0)
        before = len(_template.ids(loaded.tokenizer, preamble))  # the model writes it with every answer
        limit, call = self.settings.max_new_tokens, found[-1][1] if calling else ""
        learnt = replace(
            known,
            as_json=self.learnt.as_json and (not call or is_json(call)),
            opening="" if known.thinks else _template.shared_opening(loaded.tokenizer, preamble, calling),
            opened=0,
            new_tokens=limit if limit != "auto" else before + (longest * 3 // 2 + 8 if longest else known.new_tokens),
        )
        notes = (f"template: {note}", f"a turn ends with {loaded.tokenizer.convert_ids_to_tokens(end)!r}")
        dated = (f"the template writes a date, from now on always {day} (generation.date)",) if day else ()
        settings = self.settings.model_copy(update={"date": day}) if day else self.settings
        return Generation(settings, learnt), (*notes, *dated, *neutral, *self.learnt.notes())

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
            pieces = [_answers.piece(self.learnt, tokenizer, turn) for turn in (turns[-1:] if final_only else turns)]
        except ProofError as error:
            raise _of_row(example, error) from error
        if final_only:  # to be measured: what the template itself puts before an answer is no part of it
            lead = _template.follows(tokenizer, turns[-1].prompt, self.learnt.preamble)
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
        """The row with its target as the template writes it, where that calls tools or thinks: what answers are
        compared with.

        Raises:
            ProofError: with the row, as `encode`.
        """
        try:
            return _answers.written(self.learnt, tokenizer, example)
        except ProofError as error:
            raise _of_row(example, error) from error

    def size(self, tokenizer: Any, example: Example) -> int:
        """Bytes of the reference answer as the model has to write it, thoughts included."""
        return _answers.size(self.learnt, tokenizer, example)

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
        """Greedy answers, without the end token, thoughts, and what the template puts before an answer."""
        return self._answer(loaded, inputs, progress)

    def refused(self, loaded: Loaded, inputs: Sequence[Input]) -> dict[int, str]:
        """Positions of the inputs that `answer` refuses, each with the reason: the template's, or no room."""
        found = _asking.sent(partial(self.prompt, loaded.tokenizer), inputs, self._room(loaded))
        return {place: why for place, (_, why) in enumerate(found) if why}

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
        prompts = _asking.prompts(partial(self.prompt, loaded.tokenizer), inputs, self._room(loaded))
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
                said = _answers.up_to_end(self.learnt, tokens)
                text = _answers.read(self.learnt, loaded.tokenizer, said)
                cut = not said or said[-1] not in self.learnt.stop
                answers[position] = Prediction(str(position), text, tokens=len(said), cut=cut)
            progress(len(positions))

        _evaluation.in_batches(loaded.model, lengths, write, kinds=limits, writing=True)
        return answers

    def measure(
        self, loaded: Loaded, examples: Sequence[Example], *, progress: Progress = silent
    ) -> list[dict[str, float]]:
        """Nats and tokens of the reference answer with its end, and the bytes of its text."""
        sizes = [self.size(loaded.tokenizer, example) for example in examples]
        return _language.measure(self, loaded, examples, sizes, 1 << 30, progress)

    def prompt(self, tokenizer: Any, item: Input) -> list[int]:
        """The tokens that inference sends: this is the inference path, and there is no other."""
        conversation = item if isinstance(item, Conversation) else Conversation((Message("user", item, 0.0),))
        asked = _template.render(tokenizer, conversation.messages, conversation.tools, ask=True)
        return _template.ids(tokenizer, asked) + _template.follows(tokenizer, asked, self.learnt.begun)

    def steering(self, loaded: Loaded, width: int) -> Any:
        """A transformers logits processor for prompts of so many tokens; None: the model alone decides."""
        return None

    def _limits(self, loaded: Loaded, prompts: Sequence[np.ndarray]) -> list[int]:
        """Most tokens of each answer: what the training answers need, as far as the context leaves room."""
        room = self._room(loaded)
        return [min(self.learnt.new_tokens, room - len(prompt)) for prompt in prompts]

    def _room(self, loaded: Loaded) -> int:
        from finesmith.models.load import context_length

        return context_length(loaded.model.config, loaded.tokenizer)


def _of_row(example: Example, error: ProofError) -> ProofError:
    return ProofError(f"{example.origin}: {error.message}", problems=error.problems, hint=error.hint)


PLUGIN = Generation
