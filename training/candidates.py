"""The candidates of a run: networks, their int8 forms, one with scaled decoding; the version of each."""

from training.params import params

# The incumbent is staged and never packaged: a number that no released version has.
INCUMBENT_VERSION = "999"


def version_of(candidate: str) -> str:
    package = params()["package"]
    versions = {
        package["candidate"]: package["version"],
        package["int8"]["candidate"]: package["int8"]["version"],
        package["scaled"]["candidate"]: package["scaled"]["version"],
        package["incumbent"]: INCUMBENT_VERSION,
    }
    if candidate not in versions:
        raise SystemExit(f"{candidate!r} is no candidate of params.yaml: one of {', '.join(versions)}")
    return versions[candidate]


def decode_of(candidate: str) -> str:
    """How much of a JPEG is decoded: `decode` of its package.toml."""
    return "scaled" if candidate == params()["package"]["scaled"]["candidate"] else "full"


def trained_as(candidate: str) -> str:
    """The candidate that was trained, where this one has its weights, in another form or not."""
    package = params()["package"]
    derived = (package["int8"]["candidate"], package["scaled"]["candidate"])
    return package["candidate"] if candidate in derived else candidate
