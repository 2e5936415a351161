"""Which test rows an expensive opponent is asked."""

from finesmith.measure import spread
from finesmith.types import Example, Origin


def rows(count):
    return [Example(str(n), f"text {n}", f"label {n // 10}", Origin("f", n + 1)) for n in range(count)]


def test_a_part_of_the_rows_covers_a_file_that_is_sorted_by_label():
    chosen = spread(rows(100), 20)
    assert len(chosen) == 20
    assert len({row.target for row in chosen}) == 10
    assert [row.id for row in chosen] == sorted({row.id for row in chosen}, key=int)


def test_all_rows_are_taken_where_they_fit():
    assert spread(rows(7), 20) == rows(7)
    assert len(spread(rows(7), 6)) == 6
