"""Observers of events: board, lines, JSON lines, summary."""
