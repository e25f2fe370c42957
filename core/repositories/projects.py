"""Reads and writes of `projects`."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.ids import new_id
from core.models import Project


class ProjectRepository:
    """Projects, seen by the operator."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, name: str) -> Project:
        """Create a project; its name must be new."""
        project = Project(id=new_id("proj"), name=name)
        self._session.add(project)
        self._session.flush()
        return project

    def get(self, project_id: str) -> Project | None:
        """Find a project by its id."""
        return self._session.get(Project, project_id)

    def find_by_name(self, name: str) -> Project | None:
        """Find a project by its name."""
        return self._session.scalar(select(Project).where(Project.name == name))
