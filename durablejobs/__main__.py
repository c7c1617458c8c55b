"""`python -m durablejobs` is the command `durablejobs`."""

from .cli import main

if __name__ == "__main__":
    main()
