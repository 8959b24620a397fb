"""Show by numbers where the published code differs from its formulas.

python scripts/compare_published.py [TOPIC ...]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gcp.analysis.published import TOPICS
from gcp.cli.main import run
from gcp.errors import UnknownNameError


def main(argv: list[str]) -> int:
    """Print the findings of the named topics, or of all."""
    if {"-h", "--help"} & set(argv):
        print(f"{__doc__}\nTopics: {', '.join(TOPICS)}.")
        return 0
    for name in argv:
        if name not in TOPICS:
            raise UnknownNameError("topic", name, TOPICS)
    for name in argv or TOPICS:
        findings = TOPICS[name]()
        print(findings[0].topic)
        for finding in findings:
            print(f"  {finding.value:8.1e}  {finding.what}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
