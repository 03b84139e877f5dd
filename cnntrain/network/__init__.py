"""From the layers of a config to a torch network."""
