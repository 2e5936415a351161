"""What would say the next token: the model itself, or a classifier's trunk under its base's own output layer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from finesmith.errors import ModelError
from finesmith.models.load import is_decoder

if TYPE_CHECKING:
    from finesmith.measurements.base import Study
    from finesmith.models.load import Loaded


def prepare(study: Study) -> None:
    """Takes the output layer from a classifier's base while no other model is in memory. It then waits on the CPU."""
    if study.task.kind == "causal-lm" or study.outputs:
        return
    study.forget()
    study.outputs.append(_output(study))
    study.forget()


def speaker(study: Study, loaded: Loaded) -> Callable[[Mapping[str, Any]], Any] | None:
    """What gives the logits of the next token. None for an encoder, and where the output layer cannot be told from the
    rest."""
    if study.task.kind == "causal-lm":
        return lambda batch: loaded.model(**batch).logits
    output = study.outputs[0] if study.outputs else _output(study)
    model: Any = loaded.model
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    trunk = getattr(plain, plain.base_model_prefix, None)
    if output is None or trunk is None:
        return None
    layer, scale = output
    if loaded.device.type != "cpu":
        layer = copy.deepcopy(layer).to(loaded.device)
    return lambda batch: layer(trunk(**batch).last_hidden_state) * scale


def _output(study: Study) -> tuple[Any, float] | None:
    """The output layer and the factor on its logits."""
    from finesmith.models import fast
    from finesmith.models import load as models

    if not is_decoder(models.load_config(study.recipe.model)):
        return None
    try:
        asked = models.load(study.recipe.model, "causal-lm")
    except ModelError:  # a trunk without an output layer, good for a classifier
        return None
    output = fast.cut(asked.model)
    return None if output is None else (output.layer.cpu(), output.scale)
