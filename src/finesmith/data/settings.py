"""Which rows, what their columns mean, and how they are parted."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from finesmith.settings import Settings


class DataSettings(Settings):
    """The examples. In a recipe a bare string is the `path`."""

    path: str
    """A file, a folder with train / validation / test files, or a hub data set (`owner/name`,
    `owner/name:config`)."""
    columns: dict[str, str] = Field(default={})
    """What the columns mean, where it cannot be detected: `{text: body, label: queue}`; on the command line
    `data.columns.text=body data.columns.label=queue`."""
    format: str = "auto"
    """File format; auto goes by the file's ending."""
    max_bad_rows: int = Field(default=0, ge=0)
    """How many unusable rows are acceptable; each is then written to rejected.jsonl."""
    over_length: Literal["error", "drop", "truncate"] = "error"
    """What happens to a row longer than `train.max_length`: stop, leave it out, or cut it (a generator's validation and
    test rows are left out even then). Counted either way. Documents are read in windows: there it
    is refused."""
    checks: Literal["stop", "warn", "off"] = "stop"
    """What `tune` does about blocking findings of the fast checks: stop, say so and go on, or not look at all."""
    validation: Annotated[float, Field(gt=0, lt=1)] | str | None = 0.1
    """Share of rows that choose the best step, or a file of such rows; null where the data comes with its own."""
    test: Annotated[float, Field(gt=0, lt=1)] | str | None = 0.2
    """Share of rows that are locked away for the result, or a file of such rows; null where the data has its own."""

    @property
    def files(self) -> dict[str, str]:
        """The parts that are files of their own, and where these are."""
        given = {"validation": self.validation, "test": self.test}
        return {part: value for part, value in given.items() if isinstance(value, str)}

    @model_validator(mode="before")
    @classmethod
    def _bare_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value
