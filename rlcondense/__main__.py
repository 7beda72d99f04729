"""`python -m rlcondense`."""

from rlcondense.cli import main

if __name__ == "__main__":
    main()
