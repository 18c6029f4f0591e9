"""MODEL_CARD.md: the figures of evaluation.json, calibration.json and comparison.json, for people."""

from training import LABELS
from training.candidates import decode_of
from training.judge.bar import DETECTED_FROM_PX
from training.network.model import CELL
from training.preprocess import INPUT_HEIGHT, INPUT_WIDTH

NETWORKS = {
    "efficientnet_b0": "EfficientNet-B0, trained from scratch",
    "efficientnet_b0_int8": "EfficientNet-B0, trained from scratch, with weights and activations of 8 bits (static "
    "quantisation, QDQ)",
    "efficientnet_b0_scaled": "EfficientNet-B0, trained from scratch",
    "mobilenet_v3_small": "MobileNetV3-Small, trained from scratch",
}
DECODED = {
    "full": "decoded in full",
    "scaled": "decoded at a half, a quarter or an eighth of its size if it is a JPEG large enough for that (Pillow's "
    "`draft`)",
}
SYNTHETIC_NOTICE = (
    "**Everything here is synthetic.** Every picture this model was trained on, calibrated on and measured on was "
    "drawn by the renderer in `training/vial`. It has never seen a photograph of a vial. The figures below say how "
    "well it does on more pictures of the same renderer, and nothing about a real line."
)
PHOTOGRAPHS_NOTICE = "Trained, calibrated and measured on the photographs that `DATA=` named."
SYNTHETIC_DATA = (
    "512x1024 JPEG at quality 90, drawn from a seed. They vary in vial size, proportions, cap, fill level, tints, "
    "pose, lamp, focus and noise, by lots; no lot is in two splits. Harmless things appear at equal rates on all "
    "classes: reflections, bubbles at the meniscus, dust on the lens, scratches of the holder, print on the glass.\n\n"
    "- `particle`: dark or light specks or fibres, floating or settled.\n"
    "- `chips_cracks`: cracks, and chips at rim, shoulder or heel.\n\n"
    "The split `hidden` has cracks where they are hardest to see: along the meniscus and across the print.\n\n"
    "Generator revision {generator_revision}, seed {seed}."
)
SHARES = {
    "false_approvals": "false approvals, of flawed",
    "false_rejections": "false rejections, of good",
    "undecided_good": "undecided, of good",
    "good_not_approved": "not approved, of good",
    "undecided_flawed": "undecided, of flawed",
}


def values(card: dict, candidate: str) -> dict:
    """What the template asks for, from the content of card.json."""
    test, calibration, data = card["metrics"], card["calibration"], card["provenance"]["data"]
    synthetic = card["synthetic"]
    return {
        "name": card["name"],
        "version": card["version"],
        "notice": SYNTHETIC_NOTICE if synthetic else PHOTOGRAPHS_NOTICE,
        "network": NETWORKS.get(candidate, candidate),
        "decoded": DECODED[decode_of(candidate)],
        "width": INPUT_WIDTH,
        "height": INPUT_HEIGHT,
        "cells": f"{INPUT_WIDTH // CELL}x{INPUT_HEIGHT // CELL}",
        "data": SYNTHETIC_DATA.format(**data) if synthetic else "Photographs, as they were given.",
        "data_digest": data["digest"],
        "splits": splits(data["splits"]),
        "training": training(card["provenance"]["recipe"]["training"]),
        "pictures": "synthetic pictures" if synthetic else "photographs",
        "bar": bar([*card["bar"], *compared_bar(card, candidate)]),
        "missed": missed([*card["bar"], *compared_bar(card, candidate)]),
        "accuracy": share(test["accuracy"]),
        "confusion": confusion(test["confusion_matrix"]["counts"]),
        "decisions": table(
            ("truth", "approve", "reject", "undecided"),
            [
                (label, *(counts[it] for it in ("approve", "reject", "undecided")))
                for label, counts in test["decisions"].items()
            ],
        ),
        "shares": shares(test),
        "approvals_upper": f"{test['false_approvals']['one_sided_upper']:.2%}",
        "sizes": sizes(card["sizes"]),
        "slices": slices(test["slices"]),
        "lots": test["slices"]["lot"]["lots"],
        "worst_lots": len(test["slices"]["lot"]["worst"]),
        "ece_before": calibration["before"]["expected_error"],
        "ece_after": calibration["after"]["expected_error"],
        "ece_test": test["calibration"]["expected_error"],
        **{key: calibration[key] for key in ("rule", "temperature", "approve_at", "reject_at")},
        "robustness": robustness(card["robustness"]),
        "comparison": derived(card) if "derived_from" in card["provenance"] else comparison(card["comparison"]),
    }


def table(head: tuple, rows: list[tuple]) -> str:
    lines = (head, ("---",) * len(head), *rows)
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def share(it: dict) -> str:
    if it["share"] is None:
        return "none"
    return f"{it['count']} of {it['n']}, {it['share']:.2%} ({it['low']:.2%} to {it['high']:.2%})"


def splits(by_name: dict) -> str:
    return table(("split", *LABELS), [(name, *(it["n"].get(label, 0) for label in LABELS)) for name, it in
                                      by_name.items()])  # fmt: skip


def training(recipe: dict) -> str:
    device = "a CPU" if recipe["device"] == "cpu" else recipe["device"]
    phases = "; ".join(
        f"{it['name']} ({it['steps']} steps of {it['batch']}, from {' and '.join(it['splits'])})"
        for it in recipe["phases"]
    )
    return f"About {round(recipe['seconds'] / 60)} minutes on {device}, in phases: {phases}."


def compared_bar(card: dict, candidate: str) -> list[dict]:
    """The lines that set the candidate against the incumbent; they are not about other candidates."""
    compared = card["comparison"]
    return compared["bar"] if compared and compared.get("roles", {}).get("candidate") == candidate else []


def bar(lines: list[dict]) -> str:
    words = {True: "yes", False: "**no**", None: "not measured"}
    rows = [(it["what"], it["value"], f"{it['relation']} {it['limit']}", words[it["passed"]]) for it in lines]
    return table(("what", "value", "demanded", "reached"), rows)


def missed(lines: list[dict]) -> str:
    """What failed, and what was not measured, which was not reached either."""
    rest = [it for it in lines if it["passed"] is not True]
    if not rest:
        return "All of it was reached."
    listed = "\n".join(f"- {it['what']}: {it['value']}, demanded {it['relation']} {it['limit']}" for it in rest)
    return f"Not reached; the curves below show why:\n\n{listed}"


def confusion(counts: list[list[int]]) -> str:
    rows = [(label, *row) for label, row in zip(LABELS, counts, strict=True)]
    return table(("truth", *(f"called {label}" for label in LABELS)), rows)


def shares(test: dict) -> str:
    rows = [(name, share(test[key])) for key, name in SHARES.items()]
    rows += [(f"recall of the likeliest label, {label}", share(it)) for label, it in test["recall"].items()]
    rows += [(f"detection, {label}", share(it)) for label, it in test["detection"].items()]
    return table(("what", "count, share (bounds)"), rows)


def sizes(bins: list[dict]) -> str:
    if not bins:
        return "Not measured: the set says nothing about the sizes of defects."
    rows = []
    for it in bins:
        kinds = "; ".join(f"{kind} {found['count']} of {found['n']}" for kind, found in it["by_kind"].items())
        rows.append((f"{it['from']:g} to {it['to']:g}", share(it), kinds))
    return (
        "Vials with one defect each, rendered for this. The largest extent is in px of the 512x1024 picture; "
        f"{DETECTED_FROM_PX} px are about {DETECTED_FROM_PX * INPUT_WIDTH / 512:.1f} px of the model's input.\n\n"
        "![detection by size](figures/detection.png)\n\n"
        + table(("largest extent, px", "not approved", "by kind"), rows)
    )


def slices(by_name: dict) -> str:
    rows = []
    for name, members in {**by_name, "lot": by_name["lot"]["worst"]}.items():
        for it in members:
            figures = (share(it[key]) for key in ("false_approvals", "false_rejections", "good_not_approved"))
            rows.append((name.replace("_", " "), it["slice"], *figures))
    if not rows:
        return "Not measured: the set says nothing about lots, lamps, sizes and fill levels."
    return table(("by", "slice", "false approvals", "false rejections", "good not approved"), rows)


def robustness(variants: list[dict]) -> str:
    if not variants:
        return "Not measured."
    rows = [
        (
            it["kind"],
            "" if it["level"] is None else f"{it['level']:g}",
            share(it["false_approvals"]),
            share(it["false_rejections"]),
            share(it["good_not_approved"]),
            share(it["accuracy"]),
        )
        for it in variants
    ]
    head = ("change", "level", "false approvals", "false rejections", "good not approved", "likeliest label right")
    return (
        "Pictures of the test split, changed in one way. Levels: brightness as a factor, blur as the standard "
        "deviation in px of the picture, rotation in degrees, JPEG by its quality.\n\n"
        "![robustness](figures/robustness.png)\n\n" + table(head, rows)
    )


def comparison(compared: dict | None) -> str:
    if compared is None:
        return "Not measured: the candidates were not set side by side."
    incumbent, int8 = (compared["roles"][it] for it in ("incumbent", "int8"))
    met = "meets" if compared["int8_meets_the_bar"] else "does not meet"
    return "\n\n".join(
        [
            f"The candidates on the same pictures, thresholds by the same rule. `{incumbent}` is the network to beat; "
            f"`{int8}` {met} the bar. How fast they are, `make bench` measures.",
            side_by_side(compared["candidates"]),
            *(
                f"Likeliest label of `{name}`:\n\n{confusion(it['confusion_matrix']['counts'])}"
                for name, it in compared["candidates"].items()
            ),
            case_study(compared["case_study"]),
            human_baseline(compared["human_baseline"]),
        ]
    )


def side_by_side(columns: dict) -> str:
    figures = ("false_approvals", "false_rejections", "undecided_good", "good_not_approved", "accuracy")
    rows = [(name, *(share(it[key]) for key in figures)) for name, it in columns.items()]
    return table(("candidate", *(key.replace("_", " ") for key in figures)), rows)


def derived(card: dict) -> str:
    """Of a version that has the network of another."""
    earlier, columns = card["provenance"]["derived_from"], card["comparison"]["candidates"]
    parts = [
        f"The network is that of version {earlier['version']}, weight for weight (`{earlier['digest']}`). Made anew: "
        f"{earlier['anew']}. Both, on the same pictures:",
        side_by_side(columns),
    ]
    sizes = [it["sizes"] for it in columns.values()]
    if all(sizes):
        rows = [
            (f"{bins[0]['from']:g} to {bins[0]['to']:g}", *(f"{it['share']:.2%} of {it['n']}" for it in bins))
            for bins in zip(*sizes, strict=True)
        ]
        parts.append(table(("largest extent of the defect, px: not approved", *columns), rows))
    return "\n\n".join(parts)


def case_study(published: dict) -> str:
    tables = (f"{name}:\n\n{confusion(it)}" for name, it in published.items() if name not in ("note", "labels"))
    return "\n\n".join([f"### The case study\n\n{published['note'].capitalize()}.", *tables])


def human_baseline(baseline: dict) -> str:
    said = "\n".join(f"- {it['says']} ({it['source']})" for it in baseline["statements"])
    return f"### People\n\n{baseline['note']}\n\n{said}"
