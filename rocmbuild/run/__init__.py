"""Scheduling: tasks, resources, stamps and the steps of a component."""
