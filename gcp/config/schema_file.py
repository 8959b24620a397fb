"""Write the JSON schema for editors: `python -m gcp.config.schema_file configs/schema.json`."""

import json
import sys
from pathlib import Path

from gcp.config.describe import json_schema


def text() -> str:
    """The content of the file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m gcp.config.schema_file FILE")
    Path(sys.argv[1]).write_text(text(), encoding="utf-8")
