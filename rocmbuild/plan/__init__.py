"""What would be done: graph, fingerprints, plan. Pure."""
