import sys

from tailrace_cli import main

sys.exit(main())
