"""What a version must reach, line by line."""

from operator import ge, le, lt

RELATIONS = {"at most": le, "below": lt, "at least": ge}
FALSE_APPROVALS_MOST = 0
FALSE_REJECTIONS_MOST = 0.0015
NOT_APPROVED_MOST = 0.01
DETECTION_LEAST = 0.99
DETECTED_FROM_PX = 14
VIALS_A_BIN = 500


def bar(test: dict, sizes: list[dict]) -> list[dict]:
    """What a version must reach on its own, whatever other versions do."""
    flawed, good = f"of {test['flawed']} flawed vials", f"share of {test['good']} good vials"
    approved, rejected, kept_back = (test[it] for it in ("false_approvals", "false_rejections", "good_not_approved"))
    fewest = min((it["n"] for it in needed(sizes)), default=None)
    return [
        line(f"false approvals {flawed}", approved["count"], "at most", FALSE_APPROVALS_MOST),
        line(f"false rejections, {good}", rejected["share"], "at most", FALSE_REJECTIONS_MOST),
        line(f"false rejections and undecided, {good}", kept_back["share"], "at most", NOT_APPROVED_MOST),
        line(
            f"detection, lowest share of the size bins from {DETECTED_FROM_PX} px",
            worst_share(sizes),
            "at least",
            DETECTION_LEAST,
        ),
        line("vials in the smallest of these bins", fewest, "at least", VIALS_A_BIN),
    ]


def worst_share(sizes: list[dict]) -> float | None:
    """None where no sizes are known; a bin without a vial shows nothing."""
    return min((it["share"] or 0.0 for it in needed(sizes)), default=None)


def needed(sizes: list[dict]) -> list[dict]:
    """The size bins that count."""
    return [it for it in sizes if it["from"] >= DETECTED_FROM_PX]


def line(what: str, value: float | None, relation: str, limit: float) -> dict:
    """`passed` is None for what was not measured."""
    passed = None if value is None else RELATIONS[relation](value, limit)
    return {"what": what, "value": value, "relation": relation, "limit": limit, "passed": passed}


def in_words(lines: list[dict]) -> str:
    words = {True: "passed", False: "NOT PASSED", None: "not measured"}
    return "\n".join(
        f"{words[it['passed']]}: {it['what']}: {it['value']}, {it['relation']} {it['limit']}" for it in lines
    )
