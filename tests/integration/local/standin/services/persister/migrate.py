import os
import sys

if os.environ.get("STANDIN_BROKEN") == "migrate":
    sys.exit("migrate: the schema is from the future")
