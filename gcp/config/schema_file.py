"""Write the JSON schemas for editors: `python -m gcp.config.schema_file configs/schema.json`.

Beside it the one of flows is written, `flow_schema.json`.
"""

import json
import sys
from pathlib import Path

from gcp.config.describe import json_schema
from gcp.config.schema import Config, FlowConfig
from gcp.config.values import Section

FLOWS = "flow_schema.json"


def text(kind: type[Section] = Config) -> str:
    """The content of the file."""
    return json.dumps(json_schema(kind), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m gcp.config.schema_file FILE")
    Path(sys.argv[1]).write_text(text(), encoding="utf-8")
    Path(sys.argv[1]).with_name(FLOWS).write_text(text(FlowConfig), encoding="utf-8")
