"""The client's side: what callers ask of an engine, wherever the runs are advanced."""
