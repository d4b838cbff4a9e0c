"""Operator tools for durable-core: the durable command."""
