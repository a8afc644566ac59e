"""`python -m jtrace COMMAND`: the same as `jtrace COMMAND`."""

from jtrace.commands.main import main

if __name__ == "__main__":
    main()
