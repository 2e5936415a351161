"""The only `from_pretrained`: dtype, device, pad token, tied weights, a head with other labels: settled here.

Safetensors only; remote code only when it was asked for. What can go wrong with a name is a ModelError.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from finesmith.errors import FinesmithError, ModelError, counted
from finesmith.models import attention, causal, generating, padding, place, quantize, vocabulary
from finesmith.models.context import context_length as context_length
from finesmith.models.device import SMALLER, choose_device, choose_dtype, held_in, is_out_of_memory, take_to
from finesmith.models.settings import ModelSettings

Kind = Literal["causal-lm", "sequence-classification"]
READS = "finesmith_model_max_length"
"""In a tokenizer that cuts texts as an exported classifier was trained: how long a text its model can read."""
_UNUSABLE = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError, ImportError,
             RuntimeError, MemoryError, SafetensorError, StrictDataclassError)  # fmt: skip
"""What transformers raises over files that are damaged, contradict themselves, or need a package that is missing."""
_AUTO = {
    "causal-lm": transformers.AutoModelForCausalLM,
    "sequence-classification": transformers.AutoModelForSequenceClassification,
}


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to be tuned or asked, with its tokenizer.

    `dtype` is the precision of the arithmetic (autocast, where the weights are wider), `stored` that of the weights
    in the checkpoint, `notes` says what was settled.
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    dtype: torch.dtype
    stored: torch.dtype = torch.float32
    notes: tuple[str, ...] = ()


def load_config(settings: ModelSettings) -> Any:
    """The transformers configuration of a model.

    Raises:
        ModelError: there is no such model, or it is not a model that transformers knows.
    """
    where = place.check(settings)
    if settings.revision is not None and Path(where).expanduser().is_dir():
        raise ModelError(f"model.revision has no effect: '{settings.name}' is a local folder, not a hub model.")
    try:
        return AutoConfig.from_pretrained(
            where, revision=settings.revision, trust_remote_code=settings.trust_remote_code
        )
    except _UNUSABLE as error:
        own_code = "trust_remote_code" in str(error)
        raise ModelError(
            f"Cannot load the model '{settings.name}': {place.first_line(error)}",
            hint="If you trust its owner, set model.trust_remote_code=true." if own_code else place.hint(where),
        ) from error


def load_tokenizer(settings: ModelSettings) -> PreTrainedTokenizerBase:
    """The model's tokenizer, with a pad token in any case (the end token where it has none of its own).

    Raises:
        ModelError: the model has no tokenizer.
    """
    where = place.check(settings)
    hint = "A model folder needs tokenizer.json (and tokenizer_config.json) beside config.json."
    with _as_model_error(f"The model '{settings.name}' has no tokenizer that can be loaded", hint):
        tokenizer = AutoTokenizer.from_pretrained(
            where, revision=settings.revision, trust_remote_code=settings.trust_remote_code
        )
    tokenizer.model_max_length = tokenizer.init_kwargs.pop(READS, tokenizer.model_max_length)
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ModelError(f"The model '{settings.name}' has no tokenizer: no vocabulary was found in {where}.")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token_id is None:
        raise ModelError(f"The tokenizer of '{settings.name}' has neither a pad, nor an end, nor an unknown token.")
    return tokenizer


def load(
    settings: ModelSettings,
    kind: Kind,
    *,
    labels: tuple[str, ...] = (),
    multi_label: bool = False,
    seed: int = 0,
    moving: bool = False,
) -> Loaded:
    """Loads a model for a kind of task on the chosen device: in float32 weights, or on an accelerator as stored.

    Args:
        settings: which model, dtype and device.
        kind: causal-lm answers with text, sequence-classification with one of `labels`.
        labels: names of the classes, in the order of the head's outputs.
        multi_label: several labels may hold at once.
        seed: fixes weights that start at random (a new head; everything when `from_scratch`).
        moving: its own weights will move, for which they have to be float32.

    Raises:
        ModelError: no such model; an encoder asked to write; weights that are missing from the file, or have no room.
    """
    config = load_config(settings)
    tokenizer = load_tokenizer(settings)
    check_kind(config, kind, settings.name)
    padding.tell_config(config, tokenizer)
    stored = config.dtype if isinstance(getattr(config, "dtype", None), torch.dtype) else torch.float32
    notes = _set_labels(config, labels, multi_label) if kind == "sequence-classification" else ()
    notes += quantize.read(settings, config, moving=moving)
    device = choose_device(settings.device)
    dtype = choose_dtype(settings.dtype, device)
    torch.manual_seed(seed)  # transformers draws new weights from the global generator
    if settings.from_scratch:
        more = {"trust_remote_code": settings.trust_remote_code, **attention.argument(settings, device)}
        with _as_model_error(f"Cannot build the model '{settings.name}'", place.hint(place.of(settings))):
            model = _AUTO[kind].from_config(config, dtype=torch.float32, **more)
        fresh = tuple[str, ...]()
    else:
        held = held_in(stored, dtype, device) if not moving and settings.quantize == "none" else torch.float32
        model, fresh = _pretrained(settings, kind, config, device, dtype, held)
    notes += vocabulary.settle(model, tokenizer, settings.name)
    if settings.quantize != "none":
        notes += (f"the frozen base is quantised to {settings.quantize} ({quantize.WORDS[settings.quantize]})",)
    padding.tell_model(model, tokenizer)
    generating.settle(model, tokenizer.pad_token_id)
    model = take_to(model, device, settings.name)
    return Loaded(model, tokenizer, device, dtype, stored, notes + _new(fresh))


def plainly(folder: Path, kind: Kind, device: torch.device, *, dtype: torch.dtype | None, own_code: bool) -> Loaded:
    """A model folder as anyone loads it: by transformers alone, with nothing settled here.

    Args:
        folder: what `save_pretrained` wrote.
        kind: which Auto class.
        device: where the weights go.
        dtype: of weights and arithmetic; None: what the folder names.
        own_code: run Python code that came with the base.

    Raises:
        ModelError: transformers cannot load it.
    """
    with _as_model_error("transformers cannot load the folder"), quiet():
        model = _AUTO[kind].from_pretrained(folder, dtype=dtype or "auto", trust_remote_code=own_code)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=own_code)
    return Loaded(take_to(model, device, str(folder)).eval(), tokenizer, device, model.dtype, model.dtype)


def check_kind(config: Any, kind: Kind, name: str) -> None:
    """Refuses an architecture that cannot do `kind` (an encoder that should write, an encoder-decoder)."""
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"'{name}' is an encoder-decoder ({config.model_type}); Finesmith tunes encoders and decoders."
        )
    if kind == "causal-lm" and not is_decoder(config):
        raise ModelError(
            f"'{name}' is an encoder ({config.model_type}): it cannot write text.",
            hint="Name a decoder (Llama, Qwen, Gemma, ...), or use task: classification.",
        )
    own_code = _AUTO[kind].__name__ in (getattr(config, "auto_map", None) or {})
    if type(config) not in _AUTO[kind]._model_mapping and not own_code:
        raise ModelError(f"transformers has no {kind} model for the architecture '{config.model_type}' of '{name}'.")


def is_decoder(config: Any) -> bool:
    """Whether a checkpoint writes text from left to right: it says so, or its architecture has no masked-LM form."""
    if causal.says_otherwise(config):
        return False
    architectures = " ".join(map(str, config.architectures or []))
    if any(word in architectures for word in ("CausalLM", "LMHead", "ConditionalGeneration")):
        return True
    masked = type(config) in transformers.AutoModelForMaskedLM._model_mapping
    return type(config) in transformers.AutoModelForCausalLM._model_mapping and not masked


def parameter_counts(model: nn.Module) -> tuple[int, int]:
    """Numbers of trainable and of all parameters."""
    sizes = [(quantize.size(parameter), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers from printing while it loads or saves: what matters comes back as notes and errors.

    FutureWarnings too: PEFT asks models for an attribute by a name that transformers 5 has replaced.
    """
    talk = transformers.utils.logging
    level, bars = talk.get_verbosity(), talk.is_progress_bar_enabled()
    talk.set_verbosity_error()
    talk.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        talk.set_verbosity(level)
        if bars:
            talk.enable_progress_bar()


@contextmanager
def _as_model_error(what: str, hint: str = "") -> Iterator[None]:
    try:
        yield
    except FinesmithError:
        raise
    except _UNUSABLE as error:
        hint = "" if isinstance(error, ImportError) else SMALLER if is_out_of_memory(error) else hint
        raise ModelError(f"{what}: {place.first_line(error)}", hint=hint) from error


def _pretrained(
    settings: ModelSettings, kind: Kind, config: Any, device: torch.device, dtype: torch.dtype, held: torch.dtype
) -> tuple[Any, tuple[str, ...]]:
    where = place.of(settings)
    with _as_model_error(f"Cannot load the weights of '{settings.name}'", place.hint(where)), quiet():
        model, info = _AUTO[kind].from_pretrained(
            where,
            config=config,
            revision=settings.revision,
            dtype=held,
            use_safetensors=True,
            trust_remote_code=settings.trust_remote_code,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **attention.argument(settings, device),
            **quantize.arguments(settings, _AUTO[kind], config, device, dtype),
        )
    fresh = tuple(info["missing_keys"]) + tuple(key for key, *_ in info["mismatched_keys"])
    body = [name for name in fresh if kind == "causal-lm" or not _belongs_to_head(model, name)]
    if body:
        shown = ", ".join(body[:5]) + (f" and {len(body) - 5} more" if len(body) > 5 else "")
        raise ModelError(
            f"The weights of '{settings.name}' do not fit its configuration; these would be random: {shown}."
        )
    with quiet():
        quantize.check_trains(model, settings.name)
    quantize.settle(model, dtype)
    _widen(model, kind, held)
    return model, fresh


def _widen(model: Any, kind: Kind, held: torch.dtype) -> None:
    """A head is in float32, as it will move; and everything, also what was read from few bits, where that is asked."""
    plainly = held == torch.float32 and not getattr(model, "is_quantized", False)
    for name, weight in model.named_parameters():
        if (plainly and weight.is_floating_point()) or (
            held != torch.float32 and kind == "sequence-classification" and _belongs_to_head(model, name)
        ):
            weight.data = weight.data.float()


def _belongs_to_head(model: nn.Module, name: str) -> bool:
    """New weights are expected outside the pretrained trunk, and in a BERT-style pooler that was not saved."""
    prefix = getattr(model, "base_model_prefix", "")
    return not name.startswith(f"{prefix}.") or ".pooler." in name


def _set_labels(config: Any, labels: tuple[str, ...], multi_label: bool) -> tuple[str, ...]:
    before = list((getattr(config, "id2label", None) or {}).values())
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    config.problem_type = "multi_label_classification" if multi_label else "single_label_classification"
    default = [f"LABEL_{index}" for index in range(len(before))]
    if before in (default, list(labels)):
        return ()
    return (f"the model's head knew {counted(len(before), 'other label')}; it is replaced",)


def _new(fresh: tuple[str, ...]) -> tuple[str, ...]:
    """Which layers begin at random because the checkpoint has none: only those of a classifier may."""
    layers = sorted({name.rpartition(".")[0] for name in fresh})
    several = "s" if len(layers) > 1 else ""
    return (f"new, not in the base: the classification layer{several} ({', '.join(layers)})",) if layers else ()
