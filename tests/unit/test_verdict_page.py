"""The page of the verdict: sound HTML, one file, readable by everyone in light and dark; and it says what was found."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from finesmith.evidence import claims, plain
from finesmith.report import _style, first_screen, names, plot_words, plots, verdict_page, words
from finesmith.report._html import document, figure, table
from finesmith.report.plot_words import number
from finesmith.types import Estimate, Evidence

VOID = {"meta", "br", "hr", "img", "link", "input"}
HOSTILE = "<script>alert('x')</script> & \"quoted\" </svg>"
PLOTS = (
    {"kind": "bars", "title": "B", "x": "points", "labels": [HOSTILE, "long " * 20], "values": [3.0, -2.0]},
    {"kind": "histogram", "title": "H", "x": "tokens", "counts": [3, 4], "edges": [0, 1, 2], "mark": 1.5},
    {"kind": "line", "title": "L", "x": "rows", "y": "points", "values": [[50, 3.0], [100, 2.0]], "mark": [70, 2.5]},
    {
        "kind": "intervals",
        "title": HOSTILE,
        "x": "gain",
        "labels": ["one", HOSTILE],
        "values": [[0.1, 0.0, 0.2], [0.1, None, None]],
    },
    {
        "kind": "curves",
        "title": "C",
        "x": "rows",
        "y": "accuracy",
        "scale": "log",
        "dashed": ["forecast"],
        "values": {"tuned": [[63, 0.1], [125, 0.2]], "forecast": [[125, 0.2, 0.2, 0.2], [250, 0.3, 0.2, 0.4]]},
    },
    {
        "kind": "path",
        "title": "P",
        "x": "change, %",
        "y": "accuracy",
        "values": [[0.0, 0.1], [1.0, 0.2], [2.0, 0.3]],
        "marks": {"max (1)": [2.0, 0.3], "tuned (1)": [2.0, 0.3], "keep (0)": [0.0, 0.1]},
    },
    {
        "kind": "reliability",
        "title": "R",
        "x": "confidence",
        "y": "share right",
        "values": {"as it is": [[0.5, 0.4, 10, 0.2, 0.7], [0.9, 0.8, 11, 0.5, 0.95]], "later": [[0.6, 0.4, 21]]},
    },
    {
        "kind": "matrix",
        "title": "M",
        "x": "answered",
        "y": "true",
        "labels": ["a", HOSTILE],
        "values": [[3, 0], [1, 2]],
    },
)


def gain(value, half=0.05, n=144):
    return Estimate(value, value - half, value + half, n)


def comparison(gains=None, decision="", measured=None, outcome="supported", **more):
    gains = gains or {"base": gain(0.2), "tfidf": gain(0.1)}
    systems = {name: {"accuracy": gain(0.7 - each.value)} for name, each in gains.items()}
    evidence = Evidence(
        task="classification",
        metric="accuracy",
        systems={"tuned": {"accuracy": gain(0.7)}, **systems},
        gains=gains,
        verdict="Clear gain.",
        not_measured={"scratch": "part of --effort standard"},
        costs={"seconds": 34.0, "peak_memory_bytes": 1e9, "saved_bytes": 8e6},
        details={
            "per_class": [{"label": HOSTILE, "precision": 0.5, "recall": 0.25, "f1": 1 / 3, "support": 8}],
            "confusions": [{"target": HOSTILE, "output": "b", "count": 4}],
            "confusion_matrix": {"labels": ["b", HOSTILE], "values": [[5, 1], [4, 4]]},
            **more.pop("details", {}),
        },
    )
    claim = {"name": "fine-tuning improved the model", "outcome": outcome, "sentence": f"Clear gain {HOSTILE}.",
             "grade": "B", "numbers": {"gain": plain.values_of(gain(0.2)), "p_holm": 1e-9}}  # fmt: skip
    return {
        "decision": decision
        or "Fine-tune: the tuned model beats TF-IDF + linear SVM, the strongest of the cheaper ways "
        "(+0.100 accuracy, 95 % interval +0.050 to +0.150, n = 144).",
        "claims": [claim, {**claim, "name": "there are labels enough", "outcome": "not measured", "grade": "",
                           "sentence": "learning_curve: part of --effort standard."}],
        "evidence": plain.as_json(evidence),
        "measured": measured if measured is not None else {"controls": result({"passed": True}, PLOTS)},
        "not_measured": {"learning_curve": "part of --effort standard"},
        "seconds": {"controls": 61.0},
        **more,
    }  # fmt: skip


def result(numbers, drawn=()):
    return {"title": "negative controls", "says": f"all well; {HOSTILE} (a; b)", "numbers": numbers,
            "plots": list(drawn), "missing": {"controls: shuffled labels": "none"}, "seconds": 61.0}  # fmt: skip


ABOUT = {
    "manifest": {
        "seed": 7,
        "model": "embedded",
        "method": "lora",
        "created": "2026-11-21T10:00:00Z",
        "packages": {"torch": "2.8"},
        "data": {"sources": {"rows.csv": "ab" * 32}, "split": "cd" * 32, "rows": {"train": 502, "test": 144}},
        "notes": ["a note"],
    },
    "recipe": f"data: {HOSTILE}\n",
    "steps": [{"step": at, "loss": 2.0 / at} for at in range(1, 30)],
}


class Page(HTMLParser):
    """Reads a page as strictly as XML: every element is closed, in order. Keeps elements, ids, text and headings."""

    def __init__(self, page):
        super().__init__()
        self.open, self.elements, self.ids, self.words, self.headings = [], [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == [], "left open"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]
        assert len(dict(attributes)) == len(attributes), f"an attribute twice in {tag}"
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def said(self):
        return re.sub(r"\s+", " ", "".join(self.words))


@pytest.fixture(scope="module")
def page():
    return verdict_page.render("runs/<tickets>", comparison(), ABOUT)


def test_the_page_is_sound_html(page):
    read = Page(page)
    assert page.startswith("<!doctype html>\n<html lang=")
    assert len(read.ids) == len(set(read.ids))
    assert read.headings[0] == 1 and read.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(read.headings, read.headings[1:], strict=False))
    targets = [found["href"][1:] for tag, found in read.elements if tag == "a"]
    assert targets and set(targets) <= set(read.ids)


def test_the_page_is_one_file_without_scripts_or_addresses(page):
    read = Page(page)
    assert not {"script", "link", "iframe", "img", "object", "embed", "base", "form"} & {
        tag for tag, _ in read.elements
    }
    for tag, found in read.elements:
        assert not any(name.startswith("on") for name in found), tag
        for name in ("href", "src", "xlink:href", "action", "srcset"):
            assert found.get(name, "#").startswith("#"), (tag, found)
    assert "@import" not in page and not re.search(r"url\((?!#)", page)
    assert not re.search(r"https?://(?!www\.w3\.org/)", page)


def test_names_and_rows_are_text_and_nothing_else(page):
    assert "<script" not in page and "alert(" in page
    assert HOSTILE in "".join(Page(page).words), "the label is readable as it is"


def test_every_plot_has_a_title_a_description_and_its_numbers(page):
    drawn = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    figures = page.count("<figure>")
    assert len(drawn) == 2 * figures and figures >= len(PLOTS) + 2
    for one in drawn:
        image = ElementTree.fromstring(one)
        titles = [child for child in image if child.tag in ("title", "desc")]
        assert [child.tag for child in titles] == ["title", "desc"] and all(child.text for child in titles)
        assert image.get("aria-labelledby").split() == [child.get("id") for child in titles]
        assert image.get("role") == "img"
    for one in re.findall(r"<figure>.*?</figure>", page, flags=re.DOTALL):
        assert "<figcaption>" in one and "<table" in one


def test_groups_of_rows_have_their_band():
    plot = next(plot for plot in PLOTS if plot["kind"] == "reliability")
    bare = {**plot, "values": {name: [row[:3] for row in rows] for name, rows in plot["values"].items()}}
    assert plots.svg(plot).count("stroke-opacity: 0.3") == 2 and "stroke-opacity: 0.3" not in plots.svg(bare)
    first, *_, last = plot_words.rows(plot)
    assert first == {"": "as it is", "confidence": 0.5, "share right": 0.4, "rows": 10, "from": 0.2, "to": 0.7}
    assert last == {"": "later", "confidence": 0.6, "share right": 0.4, "rows": 21}


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot["kind"])
@pytest.mark.parametrize("form", list(plots.WIDTHS))
def test_every_kind_of_plot_is_drawn_in_the_colours_of_the_page(plot, form):
    drawn = plots.svg(plot, form, plot_words.description(plot))
    ElementTree.fromstring(drawn)
    assert not re.search(r"#0[12]020\d|#010203", drawn), "a stand-in is left"
    colours = set(re.findall(r"(?:fill|stroke): (#\w+)", drawn))
    assert colours <= {"#ffffff"}, f"{colours} are not the page's"
    assert plot["x"].partition(" (")[0] in re.sub(r"<[^>]*>", "", drawn), "the axis has a name"
    ids = re.findall(r'id=["\']([^"\']*)', drawn)
    assert len(ids) == len(set(ids))
    referred = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', drawn))
    assert referred <= set(ids)


@pytest.mark.parametrize("form", list(plots.WIDTHS))
def test_large_numbers_beside_bars_are_written_out(form):
    bars = {"kind": "bars", "title": "B", "x": "tokens", "labels": ["a", "b"], "values": [100_000.0, 0.12345]}
    told = plot_words.description(bars)
    assert "tokens 100,000" in told
    drawn = plots.svg(bars, form, told)
    assert ">100,000<" in drawn and ">0.1235<" in drawn


@pytest.mark.parametrize(
    "count, what, drawn", [(399, "every step", 399), (5000, "one step in 25, from step 1 on", 200)]
)
def test_the_loss_says_which_steps_are_drawn(monkeypatch, count, what, drawn):
    plots_made = []
    monkeypatch.setattr(verdict_page, "figure", lambda plot, note: plots_made.append(plot) or "")
    verdict_page._training([{"step": step, "loss": 1.0} for step in range(1, count + 1)])
    assert plots_made[0]["title"] == f"The training loss of {what}"
    assert len(plots_made[0]["values"]["training"]) == drawn


def test_every_kind_of_plot_has_a_table():
    assert set(plots.KINDS) == {plot["kind"] for plot in PLOTS}
    for plot in PLOTS:
        rows = plot_words.rows(plot)
        assert rows and all(len(row) >= 2 for row in rows)
        assert plot_words.description(plot).startswith("Across: ")


def test_names_of_one_point_stand_together():
    drawn = re.sub(r"<[^>]*>", " ", plots.svg(PLOTS[5]))
    assert "max (1), tuned (1)" in drawn


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def mixed(over, under, share):
    parts = [[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in (over, under)]
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in zip(*parts, strict=True))


def test_letters_that_the_font_lacks_are_drawn_in_silence(recwarn):
    plot = {"kind": "bars", "title": "t", "x": "x", "labels": ["請求書 😀", "b"], "values": [1, 2]}
    assert "請求書 😀" in plots.svg(plot) and not [str(each.message) for each in recwarn]


def test_contrast_is_computed_as_wcag_does():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("colours", [_style.LIGHT, _style.DARK], ids=["light", "dark"])
def test_text_reads_in_light_and_dark(colours):
    for name in ("ink", "dim", "blocking", "warning", "note", "yes"):
        for back in ("back", "soft"):
            assert contrast(colours[name], colours[back]) >= 4.5, (name, back)
    for place in range(len(plots.COLOURS)):
        series = colours[f"series-{place}"]
        assert contrast(series, colours["back"]) >= 3, place
        assert contrast(colours["ink"], mixed(series, colours["back"], 0.45)) >= 4.5, "numbers in a matrix"


def test_both_sets_of_colours_are_on_the_page_and_paper_is_light(page):
    assert _style.LIGHT.keys() == _style.DARK.keys()
    dark = page.index("prefers-color-scheme: dark")
    assert page.index(_style.LIGHT["ink"]) < dark < page.index(f"--ink: {_style.DARK['ink']}")
    paper = page[page.index("@media print") :]
    assert f"--ink: {_style.LIGHT['ink']}" in paper[: paper.index("* {")]


def test_the_first_screen_tells_a_clear_gain(page):
    said = Page(page).said
    top = said[: said.index("The statements, one by one")]
    assert "Fine-tune: the tuned model beats TF-IDF + linear SVM (a small program that counts words)" in top
    assert "Yes." in top and "right in 70 % of the test rows" in top and "right in 60 % of the test rows" in top
    assert "does not mean good enough" in top and "of the cheaper ways that were tried" in top
    assert "put aside before training" in top and "trained once" in top
    assert "The training: 34 s" in top and "not measured" in top
    assert "The advice would change if a cheaper way did as well" in top


@pytest.mark.parametrize(
    ("against", "decision", "worth", "told"),
    [
        (gain(-0.2), "Use TF-IDF + linear SVM: it is clearly better (-0.2, n = 144).", "No", "20 points worse now"),
        (gain(0.02), "Use TF-IDF + linear SVM: not clearly better (+0.02, n = 144).", "Not shown", "test rows would"),
        (gain(-0.02), "Use TF-IDF + linear SVM: not clearly better (-0.02, n = 144).", "Not shown", "clearly better"),
        (gain(0.1), "Use TF-IDF + linear SVM: below what is of use (0.1, n = 144).", "Not shown", "smaller gain"),
    ],
)
def test_the_first_screen_tells_what_would_change_the_advice(against, decision, worth, told):
    compared = comparison({"base": gain(0.3), "tfidf": against}, decision)
    first = first_screen.read(compared, plain.from_json(compared["evidence"]), ABOUT)
    assert first.worth == worth
    assert "n = 144" in first.basis and "n = 144" not in first.decision
    assert told in " ".join(first.answers["What next, and what would change it?"])


def test_the_first_screen_is_about_the_rival_of_the_decision():
    gains = {"base": gain(0.05, 0.06), "tfidf": gain(0.03, 0.01)}
    said = "Use the base as it is: the tuned model is not clearly better (+0.05, n = 144)."
    compared = comparison(gains, said, rival="base")
    first = first_screen.read(compared, plain.from_json(compared["evidence"]), ABOUT)
    told = " ".join(line for lines in first.answers.values() for line in lines)
    assert "use the base (the model before fine-tuning)" in told and "lead over the base" in told
    assert "TF-IDF" not in told, "it is beaten"


def test_the_first_screen_says_on_which_rows_a_system_was_asked():
    compared = comparison({"base": gain(0.3, n=300), "prompt": gain(0.12, n=259)}, rival="prompt")
    systems = compared["evidence"]["systems"]
    systems["base"]["accuracy"]["n"], systems["prompt"]["accuracy"]["n"] = 300, 259
    first = first_screen.read(compared, plain.from_json(compared["evidence"]), ABOUT)
    told = " ".join(line for lines in first.answers.values() for line in lines)
    assert "It was tested on 300 rows" in told, "that is all there are"
    systems["tuned"]["accuracy"]["n"] = 3080
    first = first_screen.read(compared, plain.from_json(compared["evidence"]), ABOUT)
    told = " ".join(line for lines in first.answers.values() for line in lines)
    assert "It was tested on 3,080 rows" in told and "The tuned model: right in 70 % of the test rows." in told
    assert "right in 40 % of the 300 test rows that it answered" in told
    assert "right in 58 % of the 259 test rows that it answered" in told
    assert "on the 259 rows that both answered the tuned model is 12 points better" in told
    assert (
        names.phrase(words.metric_named("chrf"), 26.51, answered=50) == "chrF 26.5 on the 50 test rows that it answered"
    )


@pytest.mark.parametrize("promptable", [True, False])
def test_a_base_that_cannot_be_prompted_is_not_asked_for_a_prompt(promptable):
    compared = comparison(promptable=promptable)
    first = first_screen.read(compared, plain.from_json(compared["evidence"]), ABOUT)
    told = " ".join(first.answers["What next, and what would change it?"])
    assert ("Prompting was not measured" in told) == promptable


@pytest.mark.parametrize("form", list(plots.WIDTHS))
def test_a_long_label_in_one_word_is_still_told_apart(form):
    long = [f"Kundenbetreuungsangelegenheiten{end}" for end in ("-alt", "-neu")]
    plot = {**PLOTS[7], "labels": [*long, "a  b"], "values": [[3, 0, 1], [1, 2, 0], [0, 0, 2]]}
    drawn = re.sub(r"<[^>]*>", "|", plots.svg(plot, form))
    assert "|1 Kundenbetreuungsa...|" in drawn and "|2 Kundenbetreuungsa...|" in drawn and "a b|" in drawn


def test_prompts_that_were_lost_stand_beside_general_text():
    numbers = {"change": plain.values_of(gain(0.001)), "margin": 0.01, "prompts": plain.values_of(gain(0.3))}
    lost = {"name": claims.KNOWLEDGE, "outcome": "not supported", "sentence": "", "grade": "B", "numbers": numbers}
    compared = comparison(measured={"retention": result({"change_bits_per_byte": 0.001})})
    compared["claims"] = [*compared["claims"], lost]
    first = first_screen.read(compared, plain.from_json(compared["evidence"]), ABOUT)
    told = "partly lost. After the tuning it predicts general text 0.1 % worse, and the answers to your prompts 30.0 % "
    assert told + "worse, than before" in " ".join(first.answers["What did it cost?"])


def test_a_base_that_cannot_answer_is_called_what_it_is():
    compared = comparison({"base": gain(-0.2), "tfidf": gain(0.1)}, "Use a linear head: better.", rival="base")
    compared["evidence"]["not_measured"]["zero-shot"] = "the base is an encoder, which cannot answer without training"
    page = Page(verdict_page.render("run", compared, ABOUT)).said
    assert "the base unchanged, with a simple classifier that learnt from your rows" in page
    assert "the model before fine-tuning" not in page


def test_a_leak_or_a_failed_control_is_an_alarm():
    leaks = {"without_leaks": {"leaked": 3, "rows": 141, "systems": {"tuned": {"value": 0.6}}}}
    compared = comparison(details=leaks, measured={"controls": result({"passed": False})})
    read = Page(verdict_page.render("run", compared, ABOUT))
    assert [found for _, found in read.elements if "alarm" in (found.get("class") or "")].__len__() == 2
    assert "Do not rely on this page" in read.said and "3 of 144 test rows" in read.said


def test_forgetting_is_told_in_words():
    claim = {"name": "the base's knowledge is kept", "outcome": "not supported", "sentence": "x", "grade": "B",
             "numbers": {"change": {"value": 0.148, "low": 0.14, "high": 0.15, "n": 212}, "margin": 0.01}}  # fmt: skip
    compared = comparison(measured={"retention": {**result({"change_bits_per_byte": 0}), "title": "knowledge"}})
    compared["claims"] = [claim]
    cost = first_screen.read(compared, plain.from_json(compared["evidence"]), ABOUT).answers["What did it cost?"]
    assert any("partly lost" in line and "14.8 % worse" in line and "1 % worse was allowed" in line for line in cost)


@pytest.mark.parametrize(
    ("outcome", "at_least", "said", "not_said"),
    [
        ("supported", 0.97, "it stays within that and keeps 98 % of the gain.", "do not settle"),
        ("supported", 0.86, "keeps 98 % of the gain, which the test rows alone do not settle.", "not clear"),
        ("supported", None, "keeps 98 % of the gain, which the test rows alone do not settle.", "not clear"),
        ("inconclusive", 0.97, "it is not clear whether it stays within that; it keeps 98 % of the gain.", "set-scale"),
    ],
)
def test_a_weaker_strength_is_said_to_keep_no_more_than_the_claim_says(outcome, at_least, said, not_said):
    change, loss = plain.values_of(gain(0.148, n=212)), plain.values_of(gain(0.002, n=57))
    numbers = {"change": change, "margin": 0.01, "scale": 0.5, "loss": loss, "kept": 0.98, "kept_at_least": at_least}
    claim = {"name": claims.KNOWLEDGE, "outcome": outcome, "sentence": "x", "grade": "C", "numbers": numbers}
    compared = comparison(measured={"retention": result({"change_bits_per_byte": 0.148})})
    compared["claims"] = [*compared["claims"], claim]
    first = first_screen.read(compared, plain.from_json(compared["evidence"]), ABOUT)
    told = " ".join(line for lines in first.answers.values() for line in lines)
    assert said in told and not_said not in told
    assert "Rests on 57 rows or passages" in Page(verdict_page.render("run", compared, ABOUT)).said


def test_a_written_answer_is_not_said_to_be_right():
    compared = comparison()
    compared["evidence"]["task"] = "generation"
    sure = first_screen.read(compared, plain.from_json(compared["evidence"]), ABOUT).answers["How sure is that?"]
    assert any("wording, not meaning" in line for line in sure)


def test_several_trainings_are_told_where_they_do_not_agree():
    found = {"seeds": [0, 1, 2], "values": [0.7, 0.6, 0.5], "gains": {"base": plain.values_of(gain(0.1, 0.2))}}
    compared = comparison(measured={"seeds": {**result(found), "title": "other seeds"}})
    said = Page(verdict_page.render("run", compared, ABOUT)).said
    assert "trained 3 times" in said and "between 10 points worse and 30 points better than the base" in said
    assert "Over 3 trainings (seeds 0, 1, 2): +0.100 (95 % interval -0.100 to +0.300)" in said


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("accuracy", -0.354, "35 points worse"),
        ("accuracy", 0.0004, "0 points"),
        ("accuracy", 0.01, "1 point better"),
        ("chrf", 21.64, "21.6 chrF better"),
        ("accuracy", float("inf"), "without limit better"),
    ],
)
def test_a_gain_in_words(name, value, told):
    assert names.apart(words.metric_named(name), value) == told


def test_folds_are_closed_on_paper_but_for_the_recipe(page):
    closed = [found for tag, found in Page(page).elements if tag == "details"]
    assert [found["class"] for found in closed].count("paper") == 1 and not any("open" in found for found in closed)


def test_each_claim_says_what_it_rests_on_and_what_its_grade_means(page):
    said = Page(page).said
    assert (
        "Rests on 144 rows or passages, one training (seed 7). p below 0.001 after Holm's correction. Grade B: " in said
    )
    assert names.GRADES["B"] in said


def test_no_internal_names_are_left(page):
    read = Page(page)
    for name in ("learning_curve", "per_class", "confusion_matrix", "without_leaks", "_"):
        found = [word for word in read.words if name in word]
        assert not found, found


def test_everything_to_make_it_again_is_there(page):
    said = Page(page).said
    for fact in (
        "ab" * 32,
        "cd" * 32,
        "torch 2.8",
        "502",
        "seed 7",
        "2026-11-21",
        "finesmith tune recipe.yaml",
        "1 min 1 s",
    ):
        assert fact in said


def test_what_was_not_measured_is_named_with_the_reason(page):
    said = Page(page).said
    part = said[said.index("What was not measured, and why", said.index("The statements")) :]
    assert "Learning curve" in part and "it is only made with --effort standard or more" in part


def test_without_claims_plots_and_steps_it_is_still_a_page():
    bare = {**comparison(measured={}), "claims": [], "not_measured": {}, "seconds": {}}
    assert "Was fine-tuning worth it?" in Page(verdict_page.render("run", bare, {**ABOUT, "steps": []})).said


def test_numbers_have_the_digits_that_count():
    assert [number(value) for value in (0.123456, 12345.6, 1e-7, 1234567, None)] == [
        "0.1235",
        "12,346",
        "1e-07",
        "1,234,567",
        "",
    ]


def test_a_table_names_its_rows_and_columns():
    read = Page(document("t", table([{"what": "a", "value": 1.0}], "A caption") + figure(PLOTS[0])))
    scopes = [found.get("scope") for tag, found in read.elements if tag == "th"]
    assert scopes[:3] == ["col", "col", "row"]


@pytest.mark.parametrize(
    ("metric", "axis", "better"), [("bits_per_byte", "bits per byte", "Lower"), ("accuracy", "accuracy", "Higher")]
)
def test_plots_say_which_way_is_better(metric, axis, better):
    asked = comparison(measured={"frontier": result({}, [plot for plot in PLOTS if plot["kind"] == "path"])})
    found = asked["evidence"]
    found["metric"] = metric
    found["systems"] = {name: {metric: scores["accuracy"]} for name, scores in found["systems"].items()}
    words_of = re.sub(r"<[^>]+>", " ", verdict_page.render("a run", asked, ABOUT))
    assert f"gain in {axis} " in words_of and "gain in bits per byte (lower is better)" not in words_of
    assert f"{better} is better at the task, further right is more forgotten" in words_of
