"""A synthetic vial on a back light: scene, glass, confusers, defects, camera."""

# Raise it with every change that changes a picture.
GENERATOR_REVISION = 3
