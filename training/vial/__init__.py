"""A synthetic vial on a back light: scene, glass, confusers, defects, camera."""

LABELS = ("good", "particle", "chips_cracks")
GENERATOR_REVISION = 1
