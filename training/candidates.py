"""The candidates of a run: networks and their int8 forms, and the version that each would be."""

from training.params import params

# The incumbent is staged and never packaged: a number that no released version has.
INCUMBENT_VERSION = "999"


def version_of(candidate: str) -> str:
    package = params()["package"]
    versions = {
        package["candidate"]: package["version"],
        package["int8"]["candidate"]: package["int8"]["version"],
        package["incumbent"]: INCUMBENT_VERSION,
    }
    if candidate not in versions:
        raise SystemExit(f"{candidate!r} is no candidate of params.yaml: one of {', '.join(versions)}")
    return versions[candidate]
