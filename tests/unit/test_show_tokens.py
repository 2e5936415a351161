"""How tokens are written for people: every token once, whatever bytes it holds."""

import pytest

from finesmith.cli.show_tokens import BRACKETS, SEPARATORS, _unused, readable
from tests.conftest import make_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.mark.parametrize(
    "text, shown",
    [
        ("🙂", ["🙂(1/4)", "🙂(2/4)", "🙂(3/4)", "🙂(4/4)"]),
        ("é!", ["é(1/2)", "é(2/2)", "!"]),
        ("x|y", ["x", "|", "y"]),
        ("", []),
    ],
)
def test_a_character_that_is_split_is_shown_in_each_of_its_tokens(tokenizer, text, shown):
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert list(readable(tokenizer, tokens)) == shown


def test_bytes_that_are_no_character_stand_as_in_the_vocabulary(tokenizer):
    half = tokenizer("🙂", add_special_tokens=False)["input_ids"][:2]
    assert list(readable(tokenizer, half)) == tokenizer.convert_ids_to_tokens(half)


def test_a_mark_is_one_that_no_token_holds():
    assert _unused(SEPARATORS, ["a", "b"]) == "|"
    assert _unused(SEPARATORS, ["<|end|>", "¦"]) == SEPARATORS[2]
    assert _unused(BRACKETS, ["a ⟧"]) == BRACKETS[1]
