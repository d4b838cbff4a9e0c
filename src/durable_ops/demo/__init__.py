"""The demo: real orders through a real workflow, while its worker is killed again and again."""
