"""`python -m holotype` is the command `holotype`."""

from holotype.cli.main import main

if __name__ == "__main__":
    main()
