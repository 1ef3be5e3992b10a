"""The whole of params.yaml and specs/, read and checked together; no torch."""

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel

from pipeline.schema.base import BASELINE, SpecError, canonicalise_arm, parse_arm, validate
from pipeline.schema.claim import CLAIMS, Claim, load_claims
from pipeline.schema.data import INCEPTION_FEATURES, ClassifierExtractor, Dataset, DataSpec, load_data_spec
from pipeline.schema.figure import Figure, find_figures, load_figure
from pipeline.schema.panel import STUDIES, Panel, StudyName, load_panel
from pipeline.schema.record import Settings, list_settings
from pipeline.schema.table import Table, find_tables, load_table, shown_arms
from pipeline.studies.ddpm.study import DdpmNetwork, DdpmOverrides, DdpmRun, DdpmSpec, load_ddpm_spec, resolve_ddpm_run
from pipeline.studies.node.study import NodeNetwork, NodeRun, NodeSpec, NodeTraining, load_node_spec, resolve_node_run

Run = NodeRun | DdpmRun


@dataclass(frozen=True)
class Project:
    """Everything that a user can write, validated."""

    data: DataSpec
    node: NodeSpec
    ddpm: DdpmSpec
    panel: Panel
    tables: dict[str, Table]
    figures: dict[str, Figure]
    claims: list[Claim]
    claim_seeds: int
    """Seeds below which a comparison between trained runs decides nothing."""
    _arms: dict[tuple[str, str, str], Run] = field(default_factory=dict, repr=False, compare=False)

    def _resolve_arm(self, study: StudyName, dataset: str, arm: str) -> Run:
        """The run of seed 0, resolved once: an arm takes 0.2 ms, and there may be thousands."""
        key = (study, dataset, arm)
        if key not in self._arms:
            if study == "node":
                self._arms[key] = resolve_node_run(self.node, dataset, arm, 0)
            else:
                self._arms[key] = resolve_ddpm_run(self.ddpm, dataset, arm, 0)
        return self._arms[key]

    def resolve(self, study: StudyName, dataset: str, arm: str, seed: int) -> Run:
        """One run, fully resolved."""
        run = self._resolve_arm(study, dataset, arm)
        return validate(type(run), {**dict(run), "seed": seed}, f"{study} {dataset} arm {arm!r}")

    def canonicalise(self, study: StudyName, dataset: str, arm: str) -> str:
        """The name that an arm has on a dataset, where fields that are its baseline's anyway are left out."""
        return canonicalise_arm(arm, self._resolve_arm(study, dataset, BASELINE).network)

    def settings(self, run: Run) -> Settings:
        """What would decide a run and its record now."""
        parts: dict[str, BaseModel] = {"network": run.network, "training": run.training, "compute": self.panel.compute}
        if isinstance(run, DdpmRun):
            spec = self.ddpm.datasets[run.dataset]
            parts |= {"diffusion": run.diffusion, "sampling": spec.sampling, "evaluation": spec.evaluation}
            parts["extractor"] = self.data.datasets[run.dataset].extractor
        return list_settings(**parts)

    def runs(self) -> list[Run]:
        """Every run that params.yaml asks for, in its order."""
        return [
            self.resolve(study, dataset, arm, seed)
            for study in STUDIES
            for dataset in self.panel.active(study)
            for arm in self.panel.datasets[dataset].grid(study).arms
            for seed in self.panel.datasets[dataset].grid(study).seeds
        ]


def load_project(root: Path) -> Project:
    """Read and check params.yaml and specs/.

    Raises:
        SpecError: the first mistake, as one line naming file, key, value and what is allowed.
    """
    data = load_data_spec(root)
    node, ddpm = load_node_spec(root), load_ddpm_spec(root)
    for study, names in (("node", node.datasets), ("ddpm", ddpm.datasets)):
        for name in names:
            if name not in data.datasets:
                known = ", ".join(data.datasets)
                raise SpecError(f"specs/{study}.yaml: datasets: unknown dataset {name!r}; specs/data.yaml has: {known}")
    for name, node_dataset in node.datasets.items():
        _check_node(name, node_dataset.training, data.datasets[name].channels)
    for name, ddpm_dataset in ddpm.datasets.items():
        _check_ddpm(name, ddpm_dataset, data.datasets[name])
    panel = load_panel(root, list(data.datasets))
    tables = {name: load_table(root, name) for name in find_tables(root)}
    figures = {name: load_figure(root, name) for name in find_figures(root)}
    claims = load_claims(root, tables)
    project = Project(data, node, ddpm, panel, tables, figures, claims.claims, claims.seeds)
    for study in STUDIES:
        for dataset, grids in panel.datasets.items():
            for index, arm in enumerate(grids.grid(study).arms):
                try:
                    project.resolve(study, dataset, arm, seed=0)
                except SpecError as error:
                    raise SpecError(f"params.yaml: {dataset}.{study}.arms.{index}: {error}") from None
    for name, table in tables.items():
        _check_arms(table.study, shown_arms(table), f"specs/tables/{name}.yaml: rows")
    for index, claim in enumerate(project.claims):
        _check_arms(claim.study, claim.arms(), f"{CLAIMS}: claims.{index}.comparisons")
    return project


def _check_node(name: str, training: NodeTraining, channels: int) -> None:
    """Refuse a recipe that does not fit the images."""
    where = f"specs/node.yaml: datasets.{name}.training"
    if len(training.mean) != channels:
        raise SpecError(f"{where}.mean has {len(training.mean)} values; specs/data.yaml says {channels} channels")
    for key in ("hue", "saturation"):
        if (value := getattr(training, key)) and channels != 3:
            raise SpecError(f"{where}.{key} = {value}: allowed is 0: images of {channels} channels have no colours")


def _check_ddpm(name: str, budget: DdpmOverrides, dataset: Dataset) -> None:
    """Refuse budgets for which there are not enough images: only the evaluation would tell, after the training."""
    where = f"specs/ddpm.yaml: datasets.{name}"
    train, images = dataset.train_images, budget.sampling.images
    limits = {
        "training.batch_size": (budget.training.batch_size, train, "the training images"),
        "evaluation.isc_splits": (budget.evaluation.isc_splits, images, "the images of a set"),
        "evaluation.kid_subset_size": (
            budget.evaluation.kid_subset_size,
            min(train, images),
            "the training images, and those of a set",
        ),
    }
    for key, (value, most, whose) in limits.items():
        if value > most:
            raise SpecError(f"{where}.{key} = {value}: at most {most} are allowed: {whose}")
    extractor = dataset.extractor
    features = extractor.features if isinstance(extractor, ClassifierExtractor) else INCEPTION_FEATURES
    if images <= features:
        raise SpecError(
            f"{where}.sampling.images = {images}: a covariance of {features} features, which the FID needs, takes at "
            f"least {features + 1} images"
        )
    if train <= features:
        raise SpecError(
            f"specs/data.yaml: datasets.{name}.extractor.features = {features}: allowed are 2 to {train - 1}: fewer "
            "than the training images, whose covariance the FID needs"
        )


def _check_arms(study: StudyName, arms: list[str], where: str) -> None:
    """Refuse arms of a view that no params.yaml could list; whether a dataset's baseline allows them is not asked."""
    model = NodeNetwork if study == "node" else DdpmNetwork
    for arm in arms:
        try:
            given = list(parse_arm(arm, model))
        except SpecError as error:
            raise SpecError(f"{where}: {error}") from None
        if given != (order := [name for name in model.model_fields if name in given]):
            raise SpecError(f"{where}: arm {arm!r}: the order of its fields is {', '.join(order)}")
