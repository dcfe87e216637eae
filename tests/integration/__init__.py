"""Tests that run real programs."""
