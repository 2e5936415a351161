"""Below each measurement's heading on the page: what was asked, why it matters, and how to read its plot."""

from __future__ import annotations

ASKED = {
    "prompting": "A model can often do a task without training if it is asked well. The base was asked in several "
    "ways, and the best way was chosen on validation rows. If a prompt is as good, fine-tuning is not needed.",
    "retention": "Fine-tuning can make a model forget. The tuned model and the base read the same general texts, "
    "which have nothing to do with this task. If the tuned model reads them worse than the margin allows, it has "
    "lost knowledge.",
    "frontier": "Fine-tuning can be turned down like a volume: at strength 0 the model is the base, at 1 it is fully "
    "tuned. In between it may keep more of what it knew and still do the task. No new training is needed for it: "
    "finesmith set-scale RUN keep (or knee, or max) applies a strength.",
    "calibration": "Can its confidence be believed? When it says 80 %, it should be right in 80 of 100 cases. Then "
    "doubtful cases can be left to a person: predict --abstain does that with the threshold found here.",
    "seeds": "A training begins with random numbers. The same training was repeated with others, to see how much of "
    "the result is luck.",
    "learning_curve": "The same training with fewer labelled rows, to foretell what more rows would bring. A "
    "forecast is a range, not a promise.",
    "label_next": "Not every row teaches the model the same. Which unlabelled rows would be worth labelling first?",
    "scratch": "The same model without its pretraining, trained on the same rows, to see what pretraining is "
    "worth here.",
    "lora_or_full": "LoRA trains a few added weights and leaves the rest; full fine-tuning changes all of them. Both "
    "were trained, each with a learning rate of its own.",
    "adherence": "Do the answers keep to the user's own form: terms, format, wording, tone? Each property is counted "
    "in the answers of the tuned model and of the base. Right of the dashed line is better than the base.",
    "consistency": "Like questions should get like answers. The same requests were reworded, and some were asked "
    "several times.",
    "controls": "Checks of the measuring itself: a sound set-up must learn a few rows by heart, and must not find "
    "anything in labels that were shuffled.",
}
_STRENGTHS = (
    "Each dot is one strength. {better} is better at the task, further right is more forgotten. max is the "
    "best at the task, keep the best that stays within the margin, knee the best trade between the two."
)
READ = {
    "gains": "The dot is the gain over each opponent, the line its 95 % interval. Right of the dashed line the tuned "
    "model is better. Where the line touches the dashed one, the difference may be chance.",
    "frontier": _STRENGTHS.format(better="Higher"),
    "frontier, lower": _STRENGTHS.format(better="Lower"),
    "reliability": "On the dashed line the model is as sure as it is right. Below it, it is too sure of itself. The "
    "bars are 95 % intervals: where they reach the dashed line, the difference may be chance.",
    "curve": "Dashed: the forecast. The shaded band is its range.",
    "matrix": "A row is what is true, a column what the model answered. Right answers lie on the "
    "diagonal (blue), wrong ones beside it (orange).",
    "loss": "The training loss says how much the training rows surprise the model: it should fall and then level off.",
}
WORDS = {
    "95 % interval": "the range in which the true value probably lies. In 95 of 100 such studies the range includes "
    "it. Few rows give a wide range.",
    "n": "how many test rows a number rests on.",
    "test rows": "examples that were put aside before training. The model never learnt from them, and they "
    "chose nothing.",
    "validation rows": "other examples that were put aside, used for choices such as when to stop.",
    "base": "the pretrained model as it was before this fine-tuning.",
    "seed": "the number that fixes all chance in a training. The same seed gives the same model.",
    "gain": "the score of the tuned model less that of an opponent, on the same rows; positive is better.",
    "Holm's correction": "who asks many questions finds something by chance. The correction demands more of each "
    "answer for that.",
    "p-value": "how often chance alone would show a difference at least this large. Small means that chance is an "
    "unlikely reason.",
    "KL, nats": "how far the tuned model's predictions lie from the base's. 0 is no difference.",
}
