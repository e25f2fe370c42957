"""Projects from the command line."""

from collections.abc import Mapping

from cli import console, tables
from cli.database import open_database
from core.models import Project
from core.quotas import Quotas
from core.repositories.projects import ProjectRepository
from core.settings import Settings

HEADINGS = ("id", "name", "running jobs", "queued jobs", "stored bytes", "rows per file")


def create(settings: Settings, name: str, limits: Mapping[str, int | None]) -> None:
    """Create a project; its id alone goes to standard output."""
    with open_database(settings) as database, database.session() as session:
        projects = ProjectRepository(session)
        project = projects.update(projects.add(name).id, limits)
    console.err.print(f"Project {name} is created:", markup=False)
    console.out.print(project.id, markup=False, soft_wrap=True)


def show_projects(settings: Settings) -> None:
    """Print every project with the limits in force, oldest first."""
    with open_database(settings) as database, database.session() as session:
        projects = ProjectRepository(session).list_all()
    tables.show(HEADINGS, [_row(project, settings) for project in projects])


def _row(project: Project, settings: Settings) -> tuple[str, ...]:
    quotas = Quotas.of(project, settings)
    limits = (quotas.running_jobs, quotas.queued_jobs, quotas.stored_bytes, quotas.file_rows)
    return (
        project.id,
        project.name,
        *("no limit" if limit is None else str(limit) for limit in limits),
    )
