"""What a study left in MLflow, read in a process of its own, where MLflow may warn as it likes."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

READER = """
import json, sys, mlflow
client = mlflow.MlflowClient(sys.argv[1])
experiments = [experiment.experiment_id for experiment in client.search_experiments()]
print(json.dumps([
    [
        run.data.tags["hssl.kind"], run.data.tags.get("hssl.trial_id", ""), run.info.status,
        sorted(point.step for point in client.get_metric_history(run.info.run_id, "probe/top1")),
    ]
    for run in client.search_runs(experiments, max_results=1000)
]))
"""


@dataclass(frozen=True)
class FoundRun:
    """One run; `steps` are those at which its probe was written."""

    kind: str
    trial_id: str
    status: str
    steps: list[int]


def mlflow_runs(home: Path) -> list[FoundRun]:
    """Every run of the home's store."""
    command = [sys.executable, "-W", "ignore", "-c", READER, f"sqlite:///{home / 'mlflow.db'}"]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    return [FoundRun(*row) for row in json.loads(out.stdout.splitlines()[-1])]
