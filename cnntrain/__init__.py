"""Train convolutional networks from the command line: a readable YAML file in, a trained network out."""
