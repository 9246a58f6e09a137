"""`python -m audioflow`: the command line, where the installed command is not on the path."""

from audioflow.cli import main

if __name__ == "__main__":
    main()
