"""Writes to MLflow that may be repeated: each looks first, so that a second try, or a second process, adds nothing.

The one file that imports MLflow. All calls name their run: nothing here starts, ends or reads an "active run", so
`MLFLOW_RUN_ID` in the environment means nothing to it.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

# MLflow reads the first of these while it is being imported.
for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",  # else files of the working directory end up in every model
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # a retry below us would create a run twice when the first answer is lost
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}.items():
    os.environ.setdefault(_name, _value)

import mlflow  # noqa: E402
from alembic.util import CommandError  # noqa: E402
from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import (  # noqa: E402
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    Metric,
    Param,
    Run,
    RunTag,
)
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.store.db.utils import (  # noqa: E402
    _get_latest_schema_revision,
    _get_schema_version,
    _upgrade_db,
    create_sqlalchemy_engine,
)
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # noqa: E402
from sqlalchemy import Engine  # noqa: E402
from sqlalchemy.exc import SQLAlchemyError  # noqa: E402

from hssl_ray import __version__  # noqa: E402
from hssl_ray.data.files import locked  # noqa: E402
from hssl_ray.study.file.problems import StoreUnavailable, StoreVersionError  # noqa: E402
from hssl_ray.study.redaction import redact  # noqa: E402
from hssl_ray.study.tracker.outbox import Fault  # noqa: E402
from hssl_ray.study.tracker.store_schema import note_known, sqlite_file  # noqa: E402
from hssl_ray.study.tracker.tracked import Point, RunFacts, TrackedModel, is_server  # noqa: E402

METRICS_AT_ONCE, PARAMS_AT_ONCE = 1000, 100  # MLflow's limits for one batch
DIGEST_LENGTH = 36  # all of a digest that MLflow holds
SCHEMA_LOCK, RUNS_LOCK = "mlflow.lock", "mlflow-runs.lock"
REFUSALS = frozenset({400, 401, 403, 404, 409, 501})


def initialise(uri: str, home: Path) -> None:
    """Make or migrate the database, once for all processes: two that do it at the same time break it.

    A server has done it for itself. A SQLite file is copied before it is migrated. Any other database of an older
    version is refused, since others may be using it; MLflow alone would migrate it without a word.

    Raises:
        StoreVersionError: the schema is older and not ours to change, or newer than the installed MLflow.
        StoreUnavailable: the database cannot be opened.
    """
    if is_server(uri):
        return
    home.mkdir(parents=True, exist_ok=True)
    with locked(home / SCHEMA_LOCK):
        try:
            engine = create_sqlalchemy_engine(uri)  # type: ignore[no-untyped-call]
            try:
                _migrate(engine, uri)
            finally:
                engine.dispose()
            SqlAlchemyStore(uri, (home / "artifacts").as_uri())  # type: ignore[no-untyped-call]
            note_known(uri)
        except (MlflowException, SQLAlchemyError) as error:
            raise _unavailable(uri, error) from error


def schema(uri: str) -> tuple[str | None, str]:
    """The schema that a database has, None where it has none, and the one that the installed MLflow works with.

    Raises:
        StoreUnavailable: the database cannot be opened.
    """
    try:
        engine = create_sqlalchemy_engine(uri)  # type: ignore[no-untyped-call]
        try:
            return _get_schema_version(engine), str(_get_latest_schema_revision())  # type: ignore[no-untyped-call]
        finally:
            engine.dispose()
    except (MlflowException, SQLAlchemyError) as error:
        raise _unavailable(uri, error) from error


def _unavailable(uri: str, error: Exception) -> StoreUnavailable:
    reason = str(error).partition("\n")[0]
    return StoreUnavailable(f"{redact(uri)}: does not answer: {redact(reason)}")


def _migrate(engine: Engine, uri: str) -> None:
    here, wanted = _get_schema_version(engine), _get_latest_schema_revision()  # type: ignore[no-untyped-call]
    if here in (None, wanted):
        return
    path = sqlite_file(uri)
    if path is None:
        raise StoreVersionError(
            f"{redact(uri)}: must have MLflow {mlflow.__version__}'s schema {wanted}, got {here}; "
            "back it up, then run `mlflow db upgrade`"
        )
    copy = path.with_name(f"{path.name}.{here}")
    shutil.copy2(path, copy)
    try:
        _upgrade_db(engine)  # type: ignore[no-untyped-call]
    except CommandError as error:
        raise StoreVersionError(
            f"{path}: schema {here} is not known to MLflow {mlflow.__version__}: {error}"
        ) from error


class MlflowStore:
    """One tracking store, server or database. Every method may raise `MlflowException` and be called again."""

    def __init__(self, uri: str, home: Path) -> None:
        self.uri, self._home = uri, home

    @cached_property
    def _client(self) -> MlflowClient:
        initialise(self.uri, self._home)  # a client of a database makes its tables, in a race with other processes
        return MlflowClient(self.uri)

    def judge(self, error: Exception) -> Fault:
        """What a failed write says about trying it again."""
        refused = isinstance(error, MlflowException) and error.get_http_status_code() in REFUSALS  # type: ignore[no-untyped-call]
        if refused or isinstance(error, StoreVersionError):
            return Fault.REFUSED
        try:
            self._client.search_experiments(max_results=1)
        except Exception:
            return Fault.AWAY
        return Fault.FAILED

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep the other processes of this home from creating what this one looks for and then creates."""
        with locked(self._home / RUNS_LOCK):
            yield

    def experiment(self, name: str) -> str:
        """The id of the experiment of this name, made or brought back from the bin."""
        found = self._client.get_experiment_by_name(name)
        if found is None:
            location = None if is_server(self.uri) else (self._home / "artifacts" / name).as_uri()
            return str(self._client.create_experiment(name, artifact_location=location))
        if found.lifecycle_stage != "active":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def experiment_id(self, name: str) -> str | None:
        """The id of the experiment of this name, if there is one."""
        found = self._client.get_experiment_by_name(name)
        return None if found is None or found.lifecycle_stage != "active" else str(found.experiment_id)

    def tag_experiment(self, experiment_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of an experiment."""
        for key, value in tags.items():
            self._client.set_experiment_tag(experiment_id, key, value)

    def runs(self, expression: str, experiment_id: str | None = None) -> list[RunFacts]:
        """Runs that match MLflow's search expression, oldest first, of one experiment or of all."""
        where = [experiment_id] if experiment_id else self._experiments()
        found: list[RunFacts] = []
        token = None
        while where:
            page = self._client.search_runs(
                where, expression, max_results=1000, order_by=["attributes.start_time ASC"], page_token=token
            )
            found += map(_facts, page)
            token = page.token
            if not token:
                break
        return found

    def all_runs(self, expression: str) -> list[RunFacts]:
        """Runs of all experiments for one who only reads: none where there is no database yet.

        Raises:
            StoreUnavailable: MLflow does not answer.
            StoreVersionError: the database has another version's schema.
        """
        path = sqlite_file(self.uri)
        if path is not None and not path.exists():
            return []
        try:
            return self.runs(expression)
        except (MlflowException, SQLAlchemyError) as error:
            raise _unavailable(self.uri, error) from error

    def _experiments(self) -> list[str]:
        found: list[str] = []
        token = None
        while True:
            page = self._client.search_experiments(page_token=token)
            found += [experiment.experiment_id for experiment in page]
            token = page.token
            if not token:
                return found

    def run(self, run_id: str) -> RunFacts:
        """A run as it is now."""
        return _facts(self._client.get_run(run_id))

    def create_run(self, experiment_id: str, name: str, tags: Mapping[str, str]) -> RunFacts:
        """A new run, RUNNING."""
        return _facts(self._client.create_run(experiment_id, run_name=name, tags=dict(tags)))

    def delete_run(self, run_id: str) -> None:
        """Put a run into the bin."""
        self._client.delete_run(run_id)

    def logged(self, run: RunFacts) -> dict[tuple[str, int], Point]:
        """The points that a run has, by metric and epoch."""
        return {
            (key, metric.step): Point(key, metric.value, metric.timestamp, metric.step)
            for key in run.metrics
            for metric in self._client.get_metric_history(run.run_id, key)
        }

    def log(
        self,
        run_id: str,
        points: Iterable[Point] = (),
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> None:
        """Write params, then points, then tags, in batches."""
        texts = [Param(key, value) for key, value in (params or {}).items()]
        for start in range(0, len(texts), PARAMS_AT_ONCE):
            self._client.log_batch(run_id, params=texts[start : start + PARAMS_AT_ONCE])
        metrics = [Metric(point.key, point.value, point.time, point.step) for point in points]
        for start in range(0, len(metrics), METRICS_AT_ONCE):
            self._client.log_batch(run_id, metrics=metrics[start : start + METRICS_AT_ONCE])
        if tags:
            self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def set_status(self, run_id: str, status: str) -> None:
        """RUNNING, or one of the terminal FINISHED, FAILED, KILLED."""
        if status == "RUNNING":
            self._client.update_run(run_id, status=status)
        else:
            self._client.set_terminated(run_id, status)

    def log_dataset(self, run_id: str, name: str, digest: str, source: str) -> None:
        """Note the data set as the run's input, once. Runs of an experiment share the entry of a name and digest."""
        inputs = self._client.get_run(run_id).inputs
        if any(used.dataset.digest == digest[:DIGEST_LENGTH] for used in (inputs.dataset_inputs if inputs else ())):
            return
        dataset = Dataset(
            name=name,
            digest=digest[:DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": source}),
            profile=json.dumps({"sha256": digest}),
        )
        self._client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def log_artifacts(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Write files, by their path in the run, over what was there."""
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            self._client.log_artifacts(run_id, folder)

    def log_models(
        self, run: RunFacts, models: Mapping[str, TrackedModel | None], dataset: tuple[str, str] | None
    ) -> dict[str, str]:
        """Checkpoints of a run as its models, with metrics; also artifacts `runs:/<run_id>/<name>`.

        Args:
            models: by name; a name with None is to have no model.
            dataset: name and digest, noted with the metrics.

        Returns:
            The models' ids by name, to be loaded as `models:/<id>`.
        """
        client = self._client
        ready: dict[str, str] = {}
        for old in client.search_logged_models([run.experiment_id], f"tags.`hssl.run_id` = '{run.run_id}'"):
            model = models.get(old.name)
            wanted = model is not None and old.status == "READY" and old.tags.get("hssl.epoch") == str(model.step)
            if wanted and old.name not in ready:
                ready[old.name] = old.model_id
            elif old.name in models:  # of an earlier end of this trial, or left half written
                client.delete_logged_model(old.model_id)
        for name, model in models.items():
            if model is not None:
                self._log_model(run, name, model, ready, dataset)
        return ready

    def _log_model(
        self,
        run: RunFacts,
        name: str,
        model: TrackedModel,
        ready: dict[str, str],
        dataset: tuple[str, str] | None,
    ) -> None:
        """Write a model unless it is ready, and link it with its run and metrics."""
        client = self._client
        tags = {**model.tags, "hssl.run_id": run.run_id, "hssl.epoch": str(model.step)}
        if name in ready:
            client.set_logged_model_tags(ready[name], tags)
        else:
            created = client.create_logged_model(
                run.experiment_id,
                name=name,
                source_run_id=run.run_id,
                tags=tags,
                params=run.params,
                model_type="checkpoint",
            )
            with tempfile.TemporaryDirectory() as folder:
                _save_model(Path(folder, name), model.data, run.run_id, str(created.model_id))
                client.log_model_artifacts(str(created.model_id), str(Path(folder, name)))
            client.finalize_logged_model(str(created.model_id), "READY")
            ready[name] = str(created.model_id)
        outputs = client.get_run(run.run_id).outputs
        if ready[name] not in {output.model_id for output in (outputs.model_outputs if outputs else ())}:
            client.log_outputs(run.run_id, [LoggedModelOutput(ready[name], model.step)])
        data, digest = (dataset[0], dataset[1][:DIGEST_LENGTH]) if dataset else (None, None)
        linked = [
            Metric(p.key, p.value, p.time, p.step, ready[name], data, digest, run.run_id)
            for p in model.points
            if not math.isnan(p.value)
        ]
        client.log_batch(run.run_id, metrics=linked)


def _save_model(path: Path, data: Path, run_id: str, model_id: str) -> None:
    """An MLflow model folder that a loader module of this package reads, so that nothing in it is pickled.

    Written here because `mlflow.pyfunc` cannot be imported without a warning on the user's screen.
    """
    shutil.copytree(data, path / "data")
    requirement = f"hssl-ray=={__version__}"
    (path / "requirements.txt").write_text(requirement + "\n", encoding="utf-8")
    environment = {"python": platform.python_version(), "dependencies": ["-r requirements.txt"]}
    (path / "python_env.yaml").write_text(json.dumps(environment), encoding="utf-8")
    description = {
        "artifact_path": path.name,
        "flavors": {
            "python_function": {
                "loader_module": "hssl_ray.study.checkpoint_model",
                "data": "data",
                "env": {"virtualenv": "python_env.yaml"},
                "python_version": platform.python_version(),
            }
        },
        "mlflow_version": mlflow.__version__,
        "model_id": model_id,
        "model_uuid": model_id,
        "run_id": run_id,
        "utc_time_created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
    }
    (path / "MLmodel").write_text(json.dumps(description, indent=1), encoding="utf-8")  # JSON is YAML


def _facts(run: Run) -> RunFacts:
    return RunFacts(
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        name=run.info.run_name,
        status=run.info.status,
        start_time=run.info.start_time,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
    )
