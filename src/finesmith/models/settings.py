"""Which model, at which precision, where (no torch here)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from finesmith.settings import Settings


class ModelSettings(Settings):
    """The pretrained model. In a recipe a bare string is its `name`."""

    name: str = "embedded"
    """`embedded` (the small English decoder that ships with Finesmith), a local folder, or a hub id (`owner/name`)."""
    revision: str | None = None
    """Branch, tag or commit of a hub model."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the arithmetic; auto: bfloat16 where this device multiplies faster in it, else float32."""
    device: str = "auto"
    """auto: cuda, then mps, then cpu."""
    quantize: Literal["none", "nf4", "int8"] = "none"
    """Hold the frozen base in fewer bits (method lora): nf4 is QLoRA's 4 bits, int8 is LLM.int8(). Needs the extra
    `bitsandbytes`."""
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"
    """Implementation of attention, in training too; auto: Finesmith's for packed sequences where it is proved on the
    model, else what transformers chooses. flash_attention_2 needs CUDA and the extra `flash`; finished, a run answers
    and is exported without them too."""
    from_scratch: bool = False
    """Random initial weights of the same architecture, instead of the pretrained ones."""
    trust_remote_code: bool = False
    """Run Python code that comes with a hub model. Only for an owner you trust."""

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value
