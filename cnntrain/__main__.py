"""`python -m cnntrain` and the `cnntrain` command."""

from cnntrain.cli.main import main

if __name__ == "__main__":
    main()
