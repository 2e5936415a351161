"""What a run has been asked before: which results stand, and which were made with something else than is given now."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from finesmith import registry
from finesmith.data import sources
from finesmith.evidence import plain
from finesmith.measurements.base import Measured, Study, hears, rests_on
from finesmith.watch import Watcher

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

    Not what was measured before something that it rests on. Nor what was made with another value of something that it
    `uses`, or with something that is not given now; but measurements that `only` leaves out are asked nothing, so they
    stand where nothing new is given to them. What a measurement can say anew from its own numbers (`retold`) is, also
    where it now `hears` of another measurement.
    """
    found = _all(study)
    plugins = {name: registry.resolve("measurements", name) for name in found}
    stand: Results = {}
    stale: Results = {}
    for name, values in found.items():
        if _unknown(name, found):
            continue
        differs = given(name, study) != values.get("given", {}) and (
            not _stands(name, values, study, only) or hasattr(plugins[name], "retold")
        )
        heard = hears(plugins[name]) & set(found) - set(values.get("knew", ()))
        (stale if differs or heard else stand)[name] = values
    study.found.update({name: values["numbers"] for name, values in stand.items()})
    return {**stand, **_retold(study, stale)}


def news(name: str, study: Study, watcher: Watcher) -> Results:
    """What the measurements that are there say now that one of which they hear was made."""
    found = _all(study)
    late = {each for each in study.found if each in found and name in hears(registry.resolve("measurements", each))}
    told = _retold(study, {each: found[each] for each in sorted(late)})
    for values in told.values():
        watcher.note(f"{values['title']}: {values['says']}")
    return told


def outdate(name: str, study: Study) -> None:
    """Writes into results that rest on a measurement, or hear of it, that they do not know it as it is now."""
    for late, values in _all(study).items():
        plugin = registry.resolve("measurements", late)
        if name in rests_on(plugin) | hears(plugin) and name in values.get("knew", ()):
            values["knew"].remove(name)
            study.folder.write_json(f"measured/{late}.json", values)


def earlier(study: Study, *, only: Sequence[str] = ()) -> Results:
    """What was made before something that it `needs`, and not again since; each says so."""
    found, told = _all(study), {}
    for name, values in found.items():
        if (late := _unknown(name, found)) and _stands(name, values, study, only):
            titles = " and ".join(str(found[each].get("title", each)) for each in late)
            told[name] = {**values, "says": f"{values['says']}; made before {titles} was measured anew", "before": late}
    return told


def _all(study: Study) -> Results:
    place = study.folder.file("measured")
    names = sorted(path.stem for path in place.glob("*.json")) if place.is_dir() else []
    return {name: study.folder.read_json(f"measured/{name}.json") for name in names}


def _unknown(name: str, found: Results) -> list[str]:
    """What a result rests on and did not know, although it is there now."""
    return sorted(rests_on(registry.resolve("measurements", name)) & set(found) - set(found[name].get("knew", ())))


def _stands(name: str, values: Mapping[str, Any], study: Study, only: Sequence[str]) -> bool:
    """Whether it was made with what is given now; what `only` leaves out only with nothing that is new."""
    now, before = given(name, study), values.get("given", {})
    if not only or name in only:
        return bool(now == before)
    return all(before.get(option) == value for option, value in now.items())


def _retold(study: Study, stale: Results) -> Results:
    """What measurements say now from the numbers that they took before; written into the run."""
    found = {}
    for name, values in stale.items():
        plugin = registry.resolve("measurements", name)
        if not hasattr(plugin, "retold"):
            continue
        result: Measured = plugin.retold(study, values)
        told = {"says": result.says, "numbers": result.numbers, "plots": list(result.plots)}
        knew = sorted({*values.get("knew", ()), *(hears(plugin) & study.found.keys())})
        found[name] = plain.values_of({**values, **told, "knew": knew, "given": given(name, study)})
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
