"""Durable execution: workflows that survive crashes."""
