"""``python -m udcd_bench`` is ``udcd-bench``."""

from udcd_bench.cli import main

if __name__ == "__main__":
    main()
