"""Codec: values and entries to bytes and back, pure."""
