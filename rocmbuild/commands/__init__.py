"""What each verb does: one module per verb, each with ``run(settings) -> exit status``."""
