"""The command line: a file a command. Torch is imported only inside commands, when it is needed."""
