"""Recipes of a callback are tested where the callback is there."""

from run_fixtures import needs


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/configs/" in str(item.path.as_posix()) and "hybrid" in item.name:
            item.add_marker(needs("hybrid"))
