"""Facts as data: manifests, recipes, targets, distributions, GPUs. Pure: reads files, runs nothing."""
