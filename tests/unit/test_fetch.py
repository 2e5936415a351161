"""Weights of a hub come before the clock of a training runs, and nothing else is said of them than where they load."""

import pytest

from finesmith.models import fetch
from finesmith.models.settings import ModelSettings


@pytest.fixture
def asked(monkeypatch):
    """`asked("model.safetensors")`: a hub with these files; the list of what is asked of it."""

    def hub(*files, error=None):
        found = []

        def cached(where, name, **more):
            found.append((where, name, more["revision"]))
            if error:
                raise error
            return f"/cache/{name}" if name in files else None

        monkeypatch.setattr(fetch, "cached_file", cached)
        monkeypatch.setattr(
            fetch, "get_checkpoint_shard_files", lambda *given, revision: found.append((*given, revision))
        )
        return found

    return hub


def test_one_file_or_all_its_parts_are_fetched(asked):
    one = asked("model.safetensors")
    fetch.weights(ModelSettings(name="acme/tiny", revision="v1"))
    assert one == [("acme/tiny", "model.safetensors", "v1")]
    parts, index = asked("model.safetensors.index.json"), "model.safetensors.index.json"
    fetch.weights(ModelSettings(name="acme/large"))
    assert parts[1:] == [("acme/large", index, None), ("acme/large", f"/cache/{index}", None)]


def test_a_folder_random_weights_and_a_hub_that_does_not_answer_are_left_to_loading(asked, tmp_path):
    found = asked(error=OSError("no network"))
    fetch.weights(ModelSettings(name=str(tmp_path)))
    fetch.weights(ModelSettings(name="embedded"))
    fetch.weights(ModelSettings(name="acme/tiny", from_scratch=True))
    assert found == []
    fetch.weights(ModelSettings(name="acme/tiny"))
    assert len(found) == 1
