"""Documents: where they begin and end."""

import pytest

from finesmith.tasks.text import PLUGIN as TEXT
from finesmith.types import Example, Origin
from tests.conftest import make_tokenizer


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("window", [128, 4])
def test_a_start_and_an_end_that_stand_in_a_text_are_not_put_there_again(tmp_path, bos, window):
    tokenizer, task = make_tokenizer(tmp_path, bos=bos), TEXT(TEXT.Settings())
    start = "<s>" if bos else "</s>"
    first, end = tokenizer.convert_tokens_to_ids([start, "</s>"])
    plain = [first, *tokenizer("where is my parcel", add_special_tokens=False)["input_ids"], end]
    for text in ("{}", start + "{}", "{}</s>", start + "{}</s>"):
        example = Example("1", text.format("where is my parcel"), None, Origin("a.txt", 1))
        pieces = task.encode(example, 0, tokenizer, window)
        assert [*pieces[0].tokens, *(token for piece in pieces[1:] for token in piece.tokens[1:])] == plain
        assert list(task.check(example, pieces, tokenizer)) == []
        assert task.encode_many([example], 0, tokenizer, window)[0][0].tokens.tolist() == pieces[0].tokens.tolist()
    twice = Example("1", "</s>", None, Origin("a.txt", 1))
    assert list(task.check(twice, task.encode(twice, 0, tokenizer, window), tokenizer)) == []
