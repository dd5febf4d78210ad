"""`python -m tocache`."""

from tocache.cli.app import main

if __name__ == "__main__":
    main()
