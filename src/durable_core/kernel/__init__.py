"""What is true and what comes next: pure decisions over (program, journal, inbox, events, now).

Nothing here does IO, reads a clock, draws randomness, logs or awaits: time, seeds and ids are
arguments. ``transition.advance`` is the only door the engine uses.
"""
