"""What every process of the system needs and nothing else: bootstrap, settings, errors, identity."""
