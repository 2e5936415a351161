"""What a run has been asked before: which results stand, and which were made with something else than is given now."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from finesmith import registry
from finesmith.data import sources
from finesmith.evidence import plain
from finesmith.measurements.base import Measured, Study

Results = dict[str, dict[str, Any]]
"""What `measured/NAME.json` holds, by name."""


def given(name: str, study: Study) -> dict[str, Any]:
    """What a measurement `uses` of what was asked for, as it was asked; of a file also a digest of what it holds."""
    used = getattr(registry.resolve("measurements", name), "uses", ())
    found = {option: study.asked[option] for option in used if option in study.asked}
    digests = {
        f"{option}_digest": _digest(option, study.options[option]) for option in found if _is_file(option, study)
    }
    return plain.values_of({**found, **digests})


def read(study: Study, *, only: Sequence[str] = ()) -> Results:
    """What was measured before and stands.

    Not what was measured before something that it `needs`. Nor what was made with another value of something that it
    `uses`, or with something that is not given now; but measurements that `only` leaves out are asked nothing, so they
    stand where nothing new is given to them. What a measurement can say anew from its own numbers (`retold`) is.
    """
    place = study.folder.file("measured")
    names = sorted(path.stem for path in place.glob("*.json")) if place.is_dir() else []
    found = {name: study.folder.read_json(f"measured/{name}.json") for name in names}
    plugins = {name: registry.resolve("measurements", name) for name in names}
    stand: Results = {}
    stale: Results = {}
    for name, values in found.items():
        if set(plugins[name].needs) & set(names) - set(values.get("knew", ())):
            continue
        now, before = given(name, study), values.get("given", {})
        asked = not only or name in only or any(before.get(option) != value for option, value in now.items())
        differs = now != before and (asked or hasattr(plugins[name], "retold"))
        (stale if differs else stand)[name] = values
    study.found.update({name: values["numbers"] for name, values in stand.items()})
    return {**stand, **_retold(study, stale, plugins)}


def _retold(study: Study, stale: Results, plugins: Mapping[str, Any]) -> Results:
    """What measurements say now from the numbers that they took before; written into the run."""
    found = {}
    for name, values in stale.items():
        if not hasattr(plugins[name], "retold"):
            continue
        result: Measured = plugins[name].retold(study, values)
        told = {"says": result.says, "numbers": result.numbers, "plots": list(result.plots)}
        found[name] = plain.values_of({**values, **told, "given": given(name, study)})
        study.found[name] = found[name]["numbers"]
        study.folder.write_json(f"measured/{name}.json", found[name])
    return found


def _is_file(option: str, study: Study) -> bool:
    """Whether it is more than a plain value: it was read from a file, or names one, or was handed over as rows."""
    return option == "unlabelled" or isinstance(study.options.get(option), list | tuple)


def _digest(option: str, value: Any) -> str:
    if option == "unlabelled":
        return ",".join(source.digest() for source in sources.locate(str(value))[0])
    return hashlib.sha256(repr(value).encode("utf-8", "surrogatepass")).hexdigest()
