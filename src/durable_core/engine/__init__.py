"""The engine: the only floor with an event loop and a clock; it acts on what the kernel decides."""

import logging

# Silence by default: what an application does with our lines is its own decision.
logging.getLogger("durable").addHandler(logging.NullHandler())
