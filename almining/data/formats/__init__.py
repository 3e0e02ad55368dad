"""Annotation formats and image files: what reads and writes each, and what is wrong in them."""
