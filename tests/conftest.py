"""What all tests share: this folder on the path, for `reference` and the like, and the report, built once."""

import sys
from pathlib import Path

import pytest
from filelock import FileLock

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def report(tmp_path_factory, request):
    """The report of the committed records; one of the processes of pytest-xdist draws, the others wait for it."""
    from experiments.record import RECORDS
    from reporting.build import Config, build

    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if hasattr(request.config, "workerinput") else folder
    with FileLock(folder / "report.lock"):
        page = folder / "report" / "index.html"
        return page if page.exists() else build(Config(records=(RECORDS,), out=folder / "report"))
