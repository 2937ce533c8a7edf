"""Projects that last: sources, objects, prompts and masks in a folder NAME.masklet, saved at every action.

open_project      `open_project` and `Project`
project_files     what it is built on: the sources, and where they are on this machine
project_sources   files, their content, and the search for those that moved
project_records   what a project returns
project_database  one transaction for each action, the log, undo
project_schema    tables and migrations
project_cache     bytes that can be made again
project_tracking  tracking into a project
project_dataset   a project as a dataset; export and import
project_renders   exports by the writers of results, such as overlay videos
"""

from __future__ import annotations

from masklet.projects.open_project import Project, open_project
from masklet.projects.project_cache import ProjectCache
from masklet.projects.project_records import (
    ExportResult,
    ImportResult,
    ProjectAction,
    ProjectChange,
    ProjectClass,
    ProjectMask,
    ProjectObject,
    ProjectPrompt,
    ProjectSource,
)

__all__ = [
    "ExportResult",
    "ImportResult",
    "Project",
    "ProjectAction",
    "ProjectCache",
    "ProjectChange",
    "ProjectClass",
    "ProjectMask",
    "ProjectObject",
    "ProjectPrompt",
    "ProjectSource",
    "open_project",
]
