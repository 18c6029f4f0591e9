"""The pictures: rendered or photographed, and checked before anything learns from them."""
